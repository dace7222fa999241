"""Finding what a search left behind."""

import ast
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config

from rarts_mm.engine import CheckpointError, checkpoint_to_resume, last_saved
from rarts_mm.invocation import spelled, words
from rarts_mm.registry import SPACES

from .configs import is_search, prepare_registries, read_config
from .errors import UsageError

# Larger than any config; whatever it is, it is not read.
_LARGEST = 4 << 20
_CHECKPOINTS = re.compile(r"(epoch|iter)_\d+\.pth|last_checkpoint")


@dataclass
class Saved:
    """A search that has saved a checkpoint.

    Attributes:
        config: path of its config, in its work dir.
        cfg: the config.
        newest: when it saved last, in nanoseconds.
    """

    config: Path
    cfg: Config
    newest: int

    def checkpoint(self) -> Path:
        """Its last whole checkpoint, as ``--resume`` would take it.

        Raises:
            UsageError: every one is broken.
        """
        return checkpoint_in(self.config.parent)


@dataclass
class Found:
    """What there was under a folder.

    Attributes:
        searches: the one that saved last first.
        passed: path -> why it was passed over, of what looked like a search.
    """

    searches: list[Saved] = field(default_factory=list)
    passed: dict[Path, str] = field(default_factory=dict)

    def notes(self) -> str:
        """The paths that were passed over, each in a line of its own, with the reason."""
        return "".join(f"\n  passed over {path}: {why}" for path, why in self.passed.items())

    def print_passed(self, root: str | Path) -> None:
        """Say what was passed over, if anything was."""
        if self.passed:
            print(f"looked for searches under {root}:{self.notes()}")


def searches(root: str | Path) -> Found:
    """Every search under ``root`` that has saved something."""
    found = Found()
    for folder in sorted(
        {path.parent for path in Path(root).rglob("*") if _CHECKPOINTS.fullmatch(path.name)}
    ):
        last = last_saved(folder)
        configs = [path for path in sorted(folder.glob("*.py")) if _may_be_search(path, found)]
        if not configs:
            continue
        if last is None:
            found.passed[folder] = "its last_checkpoint names nothing, and no checkpoint is there"
            continue
        if not Path(last).exists():
            # The newest of the others, if any.
            beside = [path for path in folder.glob("*.pth") if _CHECKPOINTS.fullmatch(path.name)]
            last = max(beside, key=lambda path: path.stat().st_mtime_ns, default=None)
            if last is None:
                found.passed[folder] = "its last checkpoint is gone, and there is no other"
                continue
        for config in configs:
            try:
                cfg = read_config(config)
            except UsageError as error:
                found.passed[config] = str(error).splitlines()[0]
                continue
            if is_search(cfg):
                found.searches.append(Saved(config, cfg, Path(last).stat().st_mtime_ns))
    found.searches.sort(key=lambda saved: (saved.newest, saved.config), reverse=True)
    return found


def latest_search(root: str | Path = "work_dirs") -> tuple[Path, Path]:
    """Return config and checkpoint of the width search under ``root`` that saved a checkpoint last.

    Raises:
        UsageError: no such search there, or none of its checkpoints is whole.
    """
    found = searches(root)
    for saved in found.searches:
        if hasattr(space_class(saved.cfg), "move_to_readers"):
            found.print_passed(root)
            return saved.config, saved.checkpoint()
        found.passed[saved.config] = (
            f"it searches a {space_class(saved.cfg).__name__}, which has no widths to prune "
            f"({spelled('derive')} derives it)"
        )
    raise UsageError(
        f"no search with a checkpoint under {Path(root).absolute()} has widths to prune; run "
        f"one ({spelled('train')} SEARCH_CONFIG) or name both: {spelled('prune')} CONFIG CHECKPOINT"
        + found.notes()
    )


def next_command(search: Config) -> str:
    """What makes a network of a search that has been trained in its ``work_dir``."""
    folder = Path(search.work_dir)
    if not hasattr(space_class(search), "move_to_readers"):
        return shlex.join([*words("derive"), str(folder)])
    config = folder / Path(search.filename or "config.py").name
    both = [str(config), str(checkpoint_in(folder))]
    return shlex.join([*words("prune"), *both, "--ratio", "0.4"])


def space_class(search: Config) -> type:
    """Class of the space that a search's config names.

    Raises:
        UsageError: it is not registered.
    """
    prepare_registries(search)
    kind = (search.model.get("space") or {}).get("type", "WidthSpace")
    found = kind if isinstance(kind, type) else SPACES.get(kind)
    if found is None:
        raise UsageError(f"{search.filename}: the space {kind!r} is not known; see custom_imports")
    return found


def checkpoint_in(path: str | Path) -> Path:
    """The last whole checkpoint of a run's work dir; a file, or a URL, is returned as it is.

    Raises:
        UsageError: the folder has none.
    """
    if not Path(path).is_dir():
        return path
    try:
        last = checkpoint_to_resume(path)
    except CheckpointError as error:
        raise UsageError(f"{path}: {error}") from error
    if last is None:
        raise UsageError(f"{path} holds no checkpoint; give the path of a .pth file")
    return Path(last)


def _may_be_search(path: Path, found: Found) -> bool:
    """Whether a file has the shape of a search's config. Reading one executes it; this does not."""
    if not path.is_file() or path.stat().st_size > _LARGEST:
        return False
    text = path.read_text(errors="replace")
    if "SearchModel" not in text:
        return False
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        found.passed[path] = f"it is no Python: {error}"
        return False
    # MMEngine leaves a flat config in the work dir: one assignment per key.
    return any(
        isinstance(each, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == "model" for target in each.targets)
        and "SearchModel" in ast.unparse(each.value)
        for each in statements
    )
