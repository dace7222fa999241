"""Reading what a search left behind."""

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import Tensor

from rarts_mm.checkpoint_reader import CheckpointFileError, read_weights
from rarts_mm.engine.hooks.search_record_hook import SEARCH_RECORD
from rarts_mm.invocation import spelled
from rarts_mm.search import AUXILIARY, PRIMARY

from .configs import prepare_registries, read_config, require_search
from .errors import UsageError
from .validation import check_search

KEEP = (AUXILIARY, PRIMARY, "mean")
# What is kept of a checkpoint that has one network and no scores.
PLAIN = "plain"


def read_checkpoint(path: str | Path) -> dict:
    """Read a checkpoint, a file or a URL, on the CPU.

    Returns:
        The checkpoint; its weights are under ``state_dict``, wherever the file has them.

    Raises:
        UsageError: missing, out of reach, damaged, not finite, more than data, or no checkpoint at all.
    """
    try:
        return read_weights(path)
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
        keep: which weights it holds, one of ``KEEP`` or ``PLAIN``.
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
    plain: bool = False,
) -> Search:
    """Build a search's model with one network and load its weights and alpha.

    Args:
        keep: ``'auxiliary'``, ``'primary'`` or ``'mean'``; defaults to the config's ``model.keep``.
        options: settings of the config to override.
        plain: whether the checkpoint may also be one of the architecture alone, which has no scores:
            nothing looks at what was learned.

    Raises:
        UsageError: no search config; a checkpoint that cannot be read, holds no scores, or belongs
            to another model.
    """
    cfg = read_config(config, options)
    require_search(cfg, str(config))
    check_search(cfg, "finetune")
    if keep is not None and keep not in KEEP:
        raise UsageError(f"keep must be one of {KEEP}, got {keep!r}")
    content = read_checkpoint(checkpoint)
    state = content["state_dict"]
    is_plain = not any(k.startswith("alpha.") for k in state)
    if is_plain and not plain:
        raise UsageError(
            f"checkpoint {checkpoint} holds no scores (no entry alpha.*): it is one of a plain model. "
            f"Search first: {spelled('train')} {config} --cfg-options load_from={checkpoint}; or rank "
            "by what needs no scores: --criterion magnitude"
        )
    if is_plain and keep is not None:
        raise UsageError(
            f"keep={keep!r}: checkpoint {checkpoint} is one of a plain model and holds one network; "
            "leave --keep out"
        )
    keep = PLAIN if is_plain else keep or cfg.model.get("keep", AUXILIARY)
    if not is_plain:
        _say_if_unfinished(cfg, content.get("meta", {}), checkpoint)
    model = build_searched(cfg)
    _check_space(model.space, content, checkpoint)
    try:
        if is_plain:
            _load_plain(model, state)
        else:
            model.load_state_dict(kept_weights(state, keep))
    except RuntimeError as error:
        first = "\n".join(str(error).splitlines()[:6])
        raise UsageError(
            f"checkpoint {checkpoint} is one of another model than {config}:\n{first}\n"
            + (
                "Give a search config of the architecture that it was trained with"
                if is_plain
                else "Give the config of the search that wrote it (it lies beside the checkpoint)"
            )
        ) from error
    model.train(False)
    alphas = {n: alpha.detach().clone() for n, alpha in model.alpha_parameters().items()}
    network = copy.deepcopy(model.kept)
    model.space.move_to_readers(network)
    return Search(cfg, model, network, alphas, content.get("meta", {}), Path(checkpoint), keep)


def _say_if_unfinished(cfg: Config, meta: dict, checkpoint: str | Path) -> None:
    """Tell of a checkpoint from the middle of a search: its scores are still on their way."""
    epoch, epochs = meta.get("epoch"), cfg.train_cfg.get("max_epochs")
    if isinstance(epoch, int) and isinstance(epochs, int) and epoch < epochs:
        print(
            f"{checkpoint} is not the end of its search: {epoch} of {epochs} epochs are done. Scores may "
            f"still change; to finish the search: {spelled('train')} ... --resume"
        )


def _load_plain(model: torch.nn.Module, state: dict[str, Tensor]) -> None:
    """Load an architecture's weights; the scores let everything through."""
    for alpha in model.alpha_parameters().values():
        torch.nn.init.ones_(alpha)
    # Where scores are weights of the architecture, they are loaded with it.
    model.load_state_dict(state)


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
    if not hasattr(model.space, "move_to_readers"):
        raise UsageError(
            f"the config searches a {type(model.space).__name__}, which has no widths: its result is not "
            f"pruned but derived, {spelled('derive')} SEARCH_DIR"
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
