"""Configs of pruned models: a base model and the widths of its units."""

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rarts_mm.registry import MODELS

from .flow.cutting import cut_network
from .flow.record import Cut
from .index_text import read_indices, write_indices
from .kept import Kept
from .layers.strict_loading import require_widths
from .scores import EVERYWHERE, check_names, locate
from .slicing import slice_site

TYPE = "rarts_mm.PrunedModel"


@MODELS.register_module()
def PrunedModel(
    of: str | type,
    widths: Mapping[str, int | str] | None = None,
    cuts: Sequence[Mapping[str, Any]] = (),
    **cfg: Any,
) -> nn.Module:
    """Build a model with the layers of a pruned one.

    .. code-block:: python

        model = dict(
            type='rarts_mm.PrunedModel',
            of='CascadeRCNN',  # the base config's type, the rest of it follows unchanged
            widths={'backbone.stages.0.blocks.0.attn.w_msa': 19, ...},
            backbone=dict(...),
            ...)

    Args:
        of: Type of the base model, looked up in the default scope.
        widths: Unit name -> dimensions kept; units that are not named stay as they are. Units that
            select channels of a wider map name them, as in ``'0-4,7,12-15'``.
        cuts: What was cut by groups of channels of the whole network, one pruning after the other
            (:class:`~rarts_mm.widths.flow.record.Cut`): sizes and places, so that nothing has to be
            analysed to build the layers.
        **cfg: The base model's arguments.

    Returns:
        The base model itself, an ordinary object of type ``of``. ``init_weights`` initialises its
        sliced layers as it does the base model's.

    Raises:
        ValueError: ``widths`` names a unit that the model does not have, a width that is not a whole
            number from 1 to the unit's size, or dimensions that are not among the unit's; ``cuts``
            has layers that the model does not have, or in other sizes.
    """
    network = MODELS.build(dict(type=of, **cfg))
    if widths:
        network = _narrowed(network, widths)
    done = [Cut.from_dict(each) for each in cuts]
    for cut in done:
        cut.check(network)
        network = cut_network(network, cut)
    if done:
        require_widths(network, done)
    return network


def _narrowed(network: nn.Module, widths: Mapping[str, int | str]) -> nn.Module:
    found, left_out = locate(network, EVERYWHERE)
    sites = {site.unit.name: site for site in found}
    if unknown := [name for name in widths if name not in sites]:
        for layer in left_out:
            if layer.name in unknown:
                raise ValueError(f"widths has {layer.name}, which cannot be cut: {layer.reason}.")
        check_names(unknown, sites, "widths")
    kept = {name: _indices(name, width, sites[name].unit.size) for name, width in widths.items()}
    for name, indices in kept.items():
        network = slice_site(network, sites[name], indices, None)
    return network


def _indices(name: str, width: int | str, size: int) -> Tensor:
    """The dimensions that a width stands for."""
    if isinstance(width, str):
        indices = read_indices(width)
        if indices and indices == sorted(set(indices)) and indices[-1] < size:
            return torch.tensor(indices)
    elif isinstance(width, int) and not isinstance(width, bool) and 1 <= width <= size:
        # The first rows of a random initialisation are as random as any others.
        return torch.arange(width)
    raise ValueError(
        f"The width of {name} must be a whole number from 1 to {size}, its size in the base model, or "
        f"dimensions from 0 to {size - 1} in ascending order such as '0-4,7', got {width!r}."
    )


def pruned_config(
    model: Mapping[str, Any],
    kept: Kept,
    selections: Collection[str] = (),
    cut: Cut | None = None,
) -> dict[str, Any]:
    """The config of a pruned model.

    ``init_cfg``s of type Pretrained and ``pretrained`` arguments are dropped where units lie: they
    name weights of full width, and the pruned checkpoint has all weights.

    Args:
        model: Config of the model that was searched; it may be that of a pruned model. Not changed.
        kept: Unit name -> indices of the dimensions to keep.
        selections: The units among them that select channels of a wider map. Which they read is part
            of the architecture, so the config names them.
        cut: What the units are if they are groups of channels.

    Returns:
        ``dict(type='rarts_mm.PrunedModel', of=..., widths=..., everything else as in model)``, with
        ``cuts=`` for groups of channels.

    Raises:
        ValueError: Single layers are cut of a model that has been cut as a whole.
    """
    rest = copy.deepcopy(dict(model))
    of, widths, cuts = rest.pop("type"), {}, []
    if of in (TYPE, "PrunedModel", PrunedModel):
        of, widths = rest.pop("of"), dict(rest.pop("widths", None) or {})
        cuts = list(rest.pop("cuts", ()))
    if cut is None and cuts:
        raise ValueError(
            "the model was pruned as a whole (model.cuts), and its layers cannot be cut one by one "
            "after that; search it with space=dict(type='ChannelSpace')"
        )
    if cut is not None:
        before = {"widths": widths} if widths else {}
        return dict(
            type=TYPE,
            of=of,
            **before,
            cuts=[*cuts, cut.to_dict()],
            **without_pretrained(rest),
        )
    for name, indices in kept.items():
        chosen = [int(i) for i in indices]
        if name in selections:
            # Of a network that was pruned before, they count what it reads.
            before = read_indices(widths[name]) if name in widths else None
            widths[name] = write_indices([before[i] for i in chosen] if before else chosen)
        else:
            widths[name] = len(chosen)
    holders = {name.partition(".")[0] for name in kept}
    for key, value in rest.items():
        if key in holders:
            rest[key] = without_pretrained(value)
    return dict(type=TYPE, of=of, widths=widths, **_drop_pretrained(rest))


def without_pretrained(cfg: Any) -> Any:
    """``cfg`` without pretrained weights, at any depth."""
    if isinstance(cfg, Mapping):
        return _drop_pretrained({key: without_pretrained(value) for key, value in cfg.items()})
    if isinstance(cfg, list | tuple):
        return type(cfg)(without_pretrained(value) for value in cfg)
    return cfg


def _drop_pretrained(cfg: dict[str, Any]) -> dict[str, Any]:
    """``cfg`` without pretrained weights of its own."""
    cfg = dict(cfg)
    cfg.pop("pretrained", None)
    if "init_cfg" in cfg:
        single = isinstance(cfg["init_cfg"], Mapping)
        steps: Sequence = [cfg["init_cfg"]] if single else cfg["init_cfg"] or []
        steps = [step for step in steps if not _is_pretrained(step)]
        if not steps:
            del cfg["init_cfg"]
        elif not single:
            cfg["init_cfg"] = steps
    return cfg


def _is_pretrained(init_cfg: Mapping[str, Any]) -> bool:
    kind = init_cfg.get("type")
    name = kind if isinstance(kind, str) else getattr(kind, "__name__", "")
    return name.rpartition(".")[2] in ("Pretrained", "PretrainedInit")
