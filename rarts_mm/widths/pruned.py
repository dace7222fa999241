"""Configs of pruned models: a base model and the widths of its units."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from rarts_mm.registry import MODELS

from .kept import Kept
from .scores import EVERYWHERE, check_names, locate
from .slicing import slice_site

TYPE = "rarts_mm.PrunedModel"


@MODELS.register_module()
def PrunedModel(of: str | type, widths: Mapping[str, int], **cfg: Any) -> nn.Module:
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
        widths: Unit name -> dimensions kept; units that are not named stay as they are.
        **cfg: The base model's arguments.

    Returns:
        The base model itself, an ordinary object of type ``of``. ``init_weights`` initialises its
        sliced layers as it does the base model's.

    Raises:
        ValueError: ``widths`` names a unit that the model does not have, or a width that is not a
            whole number from 1 to the unit's size.
    """
    network = MODELS.build(dict(type=of, **cfg))
    sites = {site.unit.name: site for site in locate(network, EVERYWHERE)[0]}
    if unknown := [name for name in widths if name not in sites]:
        check_names(unknown, sites, "widths")
    for name, width in widths.items():
        size = sites[name].unit.size
        if not isinstance(width, int) or isinstance(width, bool) or not 1 <= width <= size:
            raise ValueError(
                f"The width of {name} must be a whole number from 1 to {size}, its size in the "
                f"base model, got {width!r}."
            )
    for name, width in widths.items():
        # The first rows of a random initialisation are as random as any others.
        network = slice_site(network, sites[name], torch.arange(width), None)
    return network


def pruned_config(model: Mapping[str, Any], kept: Kept) -> dict[str, Any]:
    """The config of a pruned model.

    ``init_cfg``s of type Pretrained and ``pretrained`` arguments are dropped where units lie: they
    name weights of full width, and the pruned checkpoint has all weights.

    Args:
        model: Config of the model that was searched; it may be that of a pruned model. Not changed.
        kept: Unit name -> indices of the dimensions to keep.

    Returns:
        ``dict(type='rarts_mm.PrunedModel', of=..., widths=..., everything else as in model)``.
    """
    rest = copy.deepcopy(dict(model))
    of, widths = rest.pop("type"), {}
    if of in (TYPE, "PrunedModel", PrunedModel):
        of, widths = rest.pop("of"), dict(rest.pop("widths"))
    widths.update({name: len(indices) for name, indices in kept.items()})
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
