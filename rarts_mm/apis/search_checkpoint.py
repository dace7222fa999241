"""Finding and reading what a search left behind."""

import pickle
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import CheckpointLoader
from torch import Tensor

from rarts_mm.search import AUXILIARY, PRIMARY

from .configs import is_search, prepare_registries, read_config, require_search
from .errors import UsageError
from .preflight import is_remote

KEEP = (AUXILIARY, PRIMARY, "mean")


def latest_search(root: str | Path = "work_dirs") -> tuple[Path, Path]:
    """Return config and checkpoint of the search under ``root`` that saved a checkpoint last.

    Raises:
        UsageError: no search there.
    """
    found = []
    for marker in Path(root).rglob("last_checkpoint"):
        checkpoint = Path(marker.read_text().strip())
        if not checkpoint.is_file():
            # The folder may have been moved since.
            checkpoint = marker.parent / checkpoint.name
        if not checkpoint.is_file():
            continue
        for config in sorted(marker.parent.glob("*.py")):
            if "SearchModel" in config.read_text() and is_search(read_config(config)):
                found.append((checkpoint.stat().st_mtime_ns, config, checkpoint))
    if not found:
        raise UsageError(
            f"no search with a checkpoint under {Path(root).absolute()}; run one (python "
            "tools/train.py SEARCH_CONFIG) or name both: tools/prune.py CONFIG CHECKPOINT"
        )
    _, config, checkpoint = max(found)
    return config, checkpoint


def read_checkpoint(path: str | Path) -> dict:
    """Read a checkpoint, a file or a URL, on the CPU.

    Returns:
        The checkpoint; its weights are under ``state_dict``, wherever the file has them.

    Raises:
        UsageError: missing, out of reach, truncated, or no checkpoint at all.
    """
    if is_remote(path):
        return _with_state_dict(_fetch(str(path)), path)
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"checkpoint {path} does not exist; give the path of a .pth file")
    try:
        # MMEngine's checkpoints hold its own message hub, so that the file must be trusted.
        checkpoint = torch.load(path, map_location="cpu", weights_only=False)
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError, KeyError, ValueError) as error:
        raise UsageError(
            f"checkpoint {path} ({path.stat().st_size} bytes) cannot be read: {error}. It may be "
            "truncated or no checkpoint; take the one before it"
        ) from error
    return _with_state_dict(checkpoint, path)


def _fetch(url: str) -> object:
    try:
        # Downloads once: torch.hub keeps the file.
        return CheckpointLoader.load_checkpoint(url, map_location="cpu")
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise UsageError(
            f"checkpoint {url} cannot be fetched: {error}. Download it and give the path of the file"
        ) from error


def _with_state_dict(checkpoint: object, path: str | Path) -> dict:
    if not isinstance(checkpoint, dict):
        raise UsageError(f"checkpoint {path} holds a {type(checkpoint).__name__}, not a state dict")
    if "state_dict" in checkpoint:
        return checkpoint
    # Classifiers of the original Swin release are saved as {"model": ...}.
    return {"state_dict": checkpoint.get("model", checkpoint)}


@dataclass
class Search:
    """A finished search, reduced to the network that goes on.

    Attributes:
        cfg: its config.
        model: a :class:`~rarts_mm.models.SearchModel` with one network, evaluation mode.
        meta: the checkpoint's meta data.
        checkpoint: path of the checkpoint.
        keep: which weights it holds.
    """

    cfg: Config
    model: torch.nn.Module
    meta: dict
    checkpoint: Path
    keep: str


def kept_weights(state: dict[str, Tensor], keep: str) -> dict[str, Tensor]:
    """Reduce a search's state dict to alpha and one network, under the name ``auxiliary``.

    Args:
        state: the state dict of a :class:`~rarts_mm.models.SearchModel`.
        keep: ``'auxiliary'`` (w), ``'primary'`` (u) or ``'mean'`` of both; integer buffers of the
            mean are w's.
    """
    out = {k: v for k, v in state.items() if k.startswith("alpha.")}
    for key, w in state.items():
        network, _, name = key.partition(".")
        if network != AUXILIARY:
            continue
        value = w
        if keep != AUXILIARY:
            u = state.get(f"{PRIMARY}.{name}")
            if u is None:
                raise UsageError(
                    f"keep={keep!r}: the checkpoint has no primary network (its search trained one "
                    "network); use keep='auxiliary'"
                )
            if keep == PRIMARY:
                value = u
            elif w.is_floating_point():
                value = (w + u) / 2
        out[key] = value
    return out


def load_search(
    config: str | Path,
    checkpoint: str | Path,
    keep: str | None = None,
    options: dict | None = None,
) -> Search:
    """Build a search's model with one network and load its weights and alpha.

    Args:
        keep: ``'auxiliary'``, ``'primary'`` or ``'mean'``; defaults to the config's ``model.keep``.
        options: settings of the config to override.

    Raises:
        UsageError: no search config; a checkpoint that cannot be read, holds no scores, or belongs
            to another model.
    """
    cfg = read_config(config, options)
    require_search(cfg, str(config))
    keep = keep or cfg.model.get("keep", AUXILIARY)
    if keep not in KEEP:
        raise UsageError(f"keep must be one of {KEEP}, got {keep!r}")
    content = read_checkpoint(checkpoint)
    state = content["state_dict"]
    if not any(k.startswith("alpha.") for k in state):
        raise UsageError(
            f"checkpoint {checkpoint} holds no scores (no entry alpha.*): it is one of a plain model. "
            f"Search first: python tools/train.py {config} --cfg-options load_from={checkpoint}"
        )
    prepare_registries(cfg)
    model_cfg = dict(cfg.model, networks=1, keep=AUXILIARY)
    if cfg.get("data_preprocessor") is not None:
        model_cfg.setdefault("data_preprocessor", cfg.data_preprocessor)
    model = MODELS.build(model_cfg)
    try:
        model.load_state_dict(kept_weights(state, keep))
    except RuntimeError as error:
        first = "\n".join(str(error).splitlines()[:6])
        raise UsageError(
            f"checkpoint {checkpoint} is one of another model than {config}:\n{first}\n"
            "Give the config of the search that wrote it (it lies beside the checkpoint)"
        ) from error
    model.train(False)
    return Search(cfg, model, content.get("meta", {}), Path(checkpoint), keep)
