"""Finding and reading what a search left behind."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import Tensor

from rarts_mm.engine.hooks.search_record_hook import SEARCH_RECORD
from rarts_mm.models.checkpoint_file import CheckpointFileError, read_checkpoint_file
from rarts_mm.search import AUXILIARY, PRIMARY

from .configs import is_search, prepare_registries, read_config, require_search
from .errors import UsageError
from .validation import check_search

KEEP = (AUXILIARY, PRIMARY, "mean")


class Saved(NamedTuple):
    """A search that has saved a checkpoint: paths of its config and of the checkpoint, the config."""

    config: Path
    checkpoint: Path
    cfg: Config


def searches(root: str | Path) -> list[Saved]:
    """Every search under ``root``, the one that saved last first."""
    found = []
    for marker in Path(root).rglob("last_checkpoint"):
        checkpoint = Path(marker.read_text().strip())
        if not checkpoint.is_file():
            # The folder may have been moved since.
            checkpoint = marker.parent / checkpoint.name
        if not checkpoint.is_file():
            continue
        for config in sorted(marker.parent.glob("*.py")):
            if "SearchModel" in config.read_text() and is_search(cfg := read_config(config)):
                found.append(Saved(config, checkpoint, cfg))
    return sorted(found, key=lambda s: (s.checkpoint.stat().st_mtime_ns, s.config), reverse=True)


def latest_search(root: str | Path = "work_dirs") -> tuple[Path, Path]:
    """Return config and checkpoint of the search under ``root`` that saved a checkpoint last.

    Raises:
        UsageError: no search there.
    """
    found = searches(root)
    if not found:
        raise UsageError(
            f"no search with a checkpoint under {Path(root).absolute()}; run one (python "
            "tools/train.py SEARCH_CONFIG) or name both: tools/prune.py CONFIG CHECKPOINT"
        )
    return found[0].config, found[0].checkpoint


def read_checkpoint(path: str | Path) -> dict:
    """Read a checkpoint, a file or a URL, on the CPU.

    Returns:
        The checkpoint; its weights are under ``state_dict``, wherever the file has them.

    Raises:
        UsageError: missing, out of reach, truncated, or no checkpoint at all.
    """
    try:
        return read_checkpoint_file(path)
    except CheckpointFileError as error:
        raise UsageError(str(error)) from error


@dataclass
class Search:
    """A finished search, reduced to the network that goes on.

    Attributes:
        cfg: its config.
        model: a :class:`~rarts_mm.models.SearchModel` with one network, evaluation mode.
        network: a copy of its kept network that carries scores where zero removes a dimension.
        alphas: unit name -> (size,) scores that the search learned.
        meta: the checkpoint's meta data.
        checkpoint: path of the checkpoint.
        keep: which weights it holds.
    """

    cfg: Config
    model: torch.nn.Module
    network: torch.nn.Module
    alphas: dict[str, Tensor]
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
    check_search(cfg, "finetune")
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
    model = build_searched(cfg)
    _check_space(model.space, content, checkpoint)
    try:
        model.load_state_dict(kept_weights(state, keep))
    except RuntimeError as error:
        first = "\n".join(str(error).splitlines()[:6])
        raise UsageError(
            f"checkpoint {checkpoint} is one of another model than {config}:\n{first}\n"
            "Give the config of the search that wrote it (it lies beside the checkpoint)"
        ) from error
    model.train(False)
    alphas = {n: alpha.detach().clone() for n, alpha in model.alpha_parameters().items()}
    network = copy.deepcopy(model.kept)
    model.space.settle(network)
    return Search(cfg, model, network, alphas, content.get("meta", {}), Path(checkpoint), keep)


def build_searched(cfg: Config) -> torch.nn.Module:
    """Build the model of a width search with one network.

    Raises:
        UsageError: a search that has no widths, or a space that does not fit the network.
    """
    prepare_registries(cfg)
    settings = dict(cfg.model, networks=1, keep=AUXILIARY)
    if cfg.get("data_preprocessor") is not None:
        settings.setdefault("data_preprocessor", cfg.data_preprocessor)
    try:
        model = MODELS.build(settings)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if not hasattr(model.space, "settle"):
        raise UsageError(
            f"the config searches a {type(model.space).__name__}, which has no widths: its result is not "
            "pruned but derived, python tools/derive.py SEARCH_DIR"
        )
    return model


def _check_space(space: object, content: dict, checkpoint: str | Path) -> None:
    """Refuse a checkpoint whose scores stood elsewhere: names and sizes would fit, and mean another thing."""
    wanted, found = type(space).__name__, content.get(SEARCH_RECORD, {}).get("space")
    if found is not None and wanted != found:
        raise UsageError(
            f"checkpoint {checkpoint} is of a search with model.space.type={found!r}, the config has "
            f"{wanted!r}: its scores would be taken for others. Give the config that lies beside it"
        )
