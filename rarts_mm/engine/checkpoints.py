"""Which checkpoint of a run's folder is the one to go on from: for every reader."""

import os
import re
from logging import WARNING
from pathlib import Path

from mmengine.logging import print_log

from rarts_mm.checkpoint_reader import (
    CheckpointFileError,
    UntrustedCheckpointError,
    check_checkpoint,
    read_checkpoint,
)
from rarts_mm.files import is_remote

_NUMBERED = re.compile(r"(epoch|iter)_(\d+)\.pth")
# What a system takes as a path and as a name in it, in bytes.
_LONGEST_PATH, _LONGEST_NAME = 4096, 255


class CheckpointError(ValueError):
    """A checkpoint that cannot be resumed from."""


def checkpoint_to_resume(work_dir: str | Path, given: str | Path | None = None) -> str | None:
    """Return the checkpoint that ``--resume`` means, which is whole.

    Args:
        work_dir: where the run saves.
        given: the checkpoint that the user named, if any. Otherwise it is the one that
            ``last_checkpoint`` names, or the newest valid one before it where that one is broken.

    Returns:
        Its path; None if nothing was saved yet.

    Raises:
        CheckpointError: the given file, or every file there is, is missing or broken.
    """
    if given is not None:
        reason = None if _is_foreign(given) else what_is_broken(given)
        if reason:
            raise CheckpointError(
                f"checkpoint {given} cannot be resumed from: {reason}. Give an earlier one, or "
                "--resume alone, which takes the newest whole one of the work dir"
            )
        return str(given)
    work_dir = Path(work_dir)
    last = _last(work_dir)
    if last is not None and _is_foreign(last):
        return str(last)
    broken = {}
    if last is not None:
        reason = what_is_broken(last)
        if reason is None:
            return str(last)
        broken[last] = reason
    found = _newest_valid(work_dir if last is None else last.parent, last, broken)
    if found is None and last is not None and last.parent != work_dir:
        found = _newest_valid(work_dir, last, broken)
    for path, reason in broken.items():
        print_log(f"{path} is broken ({reason}).", logger="current", level=WARNING)
    if found is not None:
        if broken or last is not None:
            print_log(f"Taking {found} instead.", logger="current", level=WARNING)
        return str(found)
    if not broken:
        return None
    raise CheckpointError(
        "no checkpoint can be resumed from: "
        + "; ".join(f"{path}: {reason}" for path, reason in broken.items())
        + ". Give a whole one, --resume CHECKPOINT, or start anew in another --work-dir"
    )


def has_saved(work_dir: str | Path) -> bool:
    """Whether there is a checkpoint, whole or not, that a run with this work dir could go on from."""
    return last_saved(work_dir) is not None


def last_saved(work_dir: str | Path) -> Path | str | None:
    """What a run with this work dir saved last, whole or not, also if it is gone; None for nothing.

    Quickly known, to compare folders and to name the file: :func:`checkpoint_to_resume` looks inside.
    """
    work_dir = Path(work_dir)
    if (last := _last(work_dir)) is not None:
        return last
    return max(_numbered(work_dir), key=lambda p: (p.stat().st_mtime_ns, p.name), default=None)


def resume_from_whole_file(runner) -> str | None:
    """Let a Runner that is to be resumed do so from :func:`checkpoint_to_resume`.

    MMEngine takes the file that ``last_checkpoint`` names, whatever is in it.

    Returns:
        The checkpoint's path; None if the run is not resumed, or there is nothing to resume yet.
    """
    if not runner._resume or runner._has_loaded:
        return None
    runner._load_from = checkpoint_to_resume(runner.work_dir, runner._load_from)
    if runner._load_from is None:
        runner._resume = False
        runner.logger.info(
            "--resume: %s has no checkpoint yet; starting from the beginning.", runner.work_dir
        )
    return runner._load_from


def what_is_broken(path: str | Path) -> str | None:
    """Say why a file is no checkpoint that a run can be resumed from; None if it is one.

    Raises:
        UntrustedCheckpointError: it is whole, but holds more than data: an older one is no substitute.
    """
    try:
        check_checkpoint(path)
    except UntrustedCheckpointError:
        raise
    except CheckpointFileError as error:
        return error.reason
    return None


def read_seed(path: str | Path) -> int | None:
    """The seed of the run that wrote a checkpoint."""
    if _is_foreign(path) and not is_remote(path):
        return None
    checkpoint = read_checkpoint(path, lazily=True)
    # The Runner's own seed may be an older one: it never gives up the first that it has seen.
    return checkpoint.get("rarts_mm", {}).get("seed", checkpoint.get("meta", {}).get("seed"))


def _is_foreign(path: str | Path) -> bool:
    """Remote files, and folders of sharded training, are left to MMEngine."""
    return "://" in str(path) or Path(path).is_dir()


def _last(work_dir: Path) -> Path | str | None:
    """What ``last_checkpoint`` names, in this folder if it has any checkpoints of its own.

    MMEngine writes full paths, also of folders that were copied since, and may have been killed while
    it wrote one.
    """
    name = _marked(work_dir)
    if name is None or "://" in name:
        return name
    here = work_dir / Path(name).name
    # CheckpointHook(out_dir=...) saves where no log is.
    if here.exists() or _numbered(work_dir) or not os.path.exists(name):
        return here
    return Path(name)


def _marked(work_dir: Path) -> str | None:
    """The text of ``last_checkpoint``; None if it is missing, empty, or no path."""
    marker = work_dir / "last_checkpoint"
    if not marker.is_file():
        return None
    with marker.open("rb") as file:
        name = file.read(_LONGEST_PATH).decode(errors="replace").strip("\0 \n")
    if "\0" in name or "\ufffd" in name or len(Path(name).name.encode()) > _LONGEST_NAME:
        return None
    return name if Path(name).name else None


def _numbered(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if _NUMBERED.fullmatch(path.name)]


def _newest_valid(folder: Path, last: Path | None, broken: dict[Path, str]) -> Path | None:
    """The newest whole ``epoch_*`` or ``iter_*`` of a folder, none younger than ``last``."""
    numbered: dict[str, list[tuple[int, Path]]] = {}
    limit = _NUMBERED.fullmatch(last.name) if last is not None else None
    for path in _numbered(folder):
        match = _NUMBERED.fullmatch(path.name)
        if path in broken:
            continue
        kind, number = match[1], int(match[2])
        if limit and kind == limit[1] and number > int(limit[2]):
            continue
        numbered.setdefault(kind, []).append((number, path))
    valid = []
    for files in numbered.values():
        for _, path in sorted(files, reverse=True):
            reason = what_is_broken(path)
            if reason is None:
                meta = read_checkpoint(path, lazily=True).get("meta", {})
                valid.append((meta.get("iter", 0), path))
                break
            broken[path] = reason
    return max(valid)[1] if valid else None
