"""What a config's network offers to a width search."""

import inspect
from collections.abc import Mapping
from pathlib import Path

from mmengine.registry import MODELS

from rarts_mm.analysis import ResultsTable, count_parameters
from rarts_mm.models import SearchModel
from rarts_mm.registry import SPACES
from rarts_mm.widths import ChannelSpace, WidthSpace, find_uncovered, find_units

from .configs import is_search, prepare_registries, read_config
from .errors import UsageError
from .validation import check_config

_EVERYWHERE = ""


def _check_keys(model: Mapping) -> None:
    """What training would refuse is refused here, too."""
    if not isinstance(model.get("space") or {}, Mapping):
        raise UsageError(
            f"model.space={model['space']!r} must be a dict, such as dict(type='WidthSpace'); on a "
            "command line model.space.type=WidthSpace"
        )
    known = {*inspect.signature(SearchModel).parameters, "type", "_scope_"}
    if odd := sorted(set(model) - known):
        raise UsageError(f"unknown key model.{odd[0]} of a SearchModel; known are {sorted(known)}")


def list_units(config: str | Path, options: dict | None = None) -> ResultsTable:
    """Find every unit of a config's network, and the layers of such kinds that are left out.

    Args:
        config: a search's config, or any MMDetection or MMPretrain config.
        options: settings of the config to override.

    Returns:
        A row per unit: name, kind, size, parameters and multiply-adds (per position of its input)
        that go with one dimension, the share of the network's parameters that all of them hold, and
        whether the search scores it (for a plain config: would score it by default). The notes say
        what was left out and why: every convolution and linear layer is in a unit or in a note.

    Raises:
        UsageError: not a config, or nothing in it that can be scored.
    """
    cfg = read_config(config, options)
    if "model" not in cfg:
        raise UsageError(f"{config} has no model to look into")
    prepare_registries(cfg)
    check_config(cfg, parts=("model",))
    search = is_search(cfg)
    if search:
        _check_keys(cfg.model)
    model = cfg.model.architecture if search else cfg.model
    space = (cfg.model.get("space") or {}) if search else {}
    kind = space.get("type", "WidthSpace")
    found = SPACES.get(kind) if isinstance(kind, str) else kind
    if found is None:
        raise UsageError(
            f"model.space.type={kind!r} is unknown; known are {sorted(SPACES.module_dict)}"
        )
    if not issubclass(found, WidthSpace):
        raise UsageError(f"{config} searches a {kind}, which has no widths to list")
    network = MODELS.build(model)
    # Backbones freeze stages when they are put into training mode.
    network.train()
    whole = issubclass(found, ChannelSpace)
    if whole:
        units, left_out = ChannelSpace().units(network)
    else:
        units, left_out = find_units(network, _EVERYWHERE)
        left_out = [*left_out, *find_uncovered(network)]
    if not units:
        raise UsageError(
            "nothing in this network can be scored"
            + "".join(f"\n  left out: {layer}" for layer in left_out)
            + "\nA further kind of layer takes one adapter class: docs/adapters.md"
        )
    space = SPACES.build(dict(space, type=found))
    refused = space.refusals(network) if search else {}
    # One analysis is enough where everything is scored.
    chosen = units if whole and not (space.include or space.exclude) else space.units(network)[0]
    scored = {unit.name for unit in chosen} - refused.keys()
    everything = count_parameters(network)
    rows = [
        dict(
            unit=unit.name,
            kind=unit.kind,
            scores=unit.size,
            parameters=unit.parameters_per_score,
            operations=unit.operations_per_score,
            share=unit.size * unit.parameters_per_score / everything,
            scored="yes" if unit.name in scored else "",
        )
        for unit in units
    ]
    inside = [row for row in rows if row["scored"]]
    notes = [
        f"{len(inside)} units with {sum(r['scores'] for r in inside):,} scores are searched; they "
        f"write or read {sum(r['share'] for r in inside):.0%} of {everything / 1e6:.2f} M parameters "
        "(weights between two units count twice)",
        "parameters and operations (multiply-adds per position) are those of one dimension; share: of "
        "the network's parameters, all dimensions of the unit",
    ]
    if len(inside) < len(rows):
        notes.append(
            "others by model.space.include (and fewer by model.space.exclude), for example --cfg-options "
            "\"model.space.include=['backbone','neck']\""
        )
    if refused:
        notes.append(
            f"a search in the {found.__name__} refuses this network until model.space.exclude names the "
            "units that have no scores there:"
        )
        notes += [f"  {name}: {reason}" for name, reason in refused.items()]
    notes += [f"left out: {layer}" for layer in left_out]
    return ResultsTable(
        dict(unit=None, kind=None, scores="", parameters="", operations="", share="%", scored=None),
        rows,
        title=f"Units of {config}",
        notes=notes,
    )
