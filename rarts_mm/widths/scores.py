"""Finding what can be scored in a network, and putting scores there."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from rarts_mm.registry import ADAPTERS

from . import adapters
from .adapters.base import WidthAdapter
from .flow.attached import attached
from .naming import EVERYWHERE, Names, Selection, nearest
from .outside import read_outside
from .sharing import Sharing
from .uncovered import uncovered
from .unit import LeftOut, Unit


@dataclass(frozen=True)
class Site:
    """A unit and where it lives: the adapter's host is the network's submodule ``path``."""

    unit: Unit
    path: str
    host: nn.Module
    adapter: WidthAdapter


def find_units(
    network: nn.Module, include: Names = "backbone", exclude: Names = ()
) -> tuple[list[Unit], list[LeftOut]]:
    """What can be scored in a network, with or without scores.

    Args:
        network: Any network.
        include: What is looked at, one or several of: the path of a submodule, the name of a unit, a
            pattern of names such as ``'backbone.*.bn1'``. ``'backbone'`` means the whole network
            where there is no backbone; ``''`` means everywhere.
        exclude: What is not, in the same way.

    Returns:
        The units in the order of the network's modules, and the layers of the right kind that
        were left out.

    Raises:
        ValueError: ``include`` or ``exclude`` name nothing in the network.
    """
    sites, left_out = locate_to_score(network, include, exclude)
    return [site.unit for site in sites], left_out


def insert_scores(
    network: nn.Module, include: Names = "backbone", init: float = 1.0, exclude: Names = ()
) -> dict[str, nn.Parameter]:
    """Give every unit of a network a score vector alpha, in place.

    Parameters and state dict of the network stay what they were: the layers refer to the alphas,
    they do not own them. Register them where they are to be trained and saved.

    Args:
        network: The network; each scored linear layer is replaced by a
            :class:`~rarts_mm.widths.ScoredLinear` with the same Parameters.
        include, exclude: As for :func:`find_units`.
        init: Initial value of all scores. 1 leaves the network's function as it is.

    Returns:
        Unit name -> (size,) Parameter, in the order of the network's modules.

    Raises:
        ValueError: There is nothing to score, or the network carries scores already, or ``init``
            is not finite.
    """
    if not math.isfinite(init):
        raise ValueError(f"The initial score must be a finite number, got {init!r}.")
    sites = sites_to_score(network, include, exclude, log=True)
    if scored := [site.unit.name for site in sites if site.adapter.alpha(site.host) is not None]:
        raise ValueError(
            f"The network carries scores already ({len(scored)} units, the first is {scored[0]}). "
            "Use bind_scores to give it others."
        )
    alphas = {}
    for site in sites:
        weight = site.adapter.weight(site.host)
        alpha = nn.Parameter(
            torch.full((site.unit.size,), init, dtype=weight.dtype, device=weight.device)
        )
        site.adapter.insert(site.host, alpha)
        alphas[site.unit.name] = alpha
    return alphas


def sites_to_score(
    network: nn.Module, include: Names, exclude: Names = (), log: bool = False
) -> list[Site]:
    """The chosen units with their layers; at least one.

    Args:
        network, include, exclude: As for :func:`find_units`.
        log: Whether to log what is left out, and why.

    Raises:
        ValueError: There is nothing to score; the message says what was looked for and left out.
    """
    sites, left_out = locate_to_score(network, include, exclude)
    if not sites:
        raise ValueError(_nothing_to_score(network, include, exclude, left_out))
    if log:
        log_left_out(left_out)
    return sites


def scores_of(network: nn.Module) -> dict[str, Tensor]:
    """The alphas that a network refers to, by unit name; empty when it carries none."""
    return {site.unit.name: site.adapter.alpha(site.host) for site in scored_sites(network)}


def bind_scores(network: nn.Module, alphas: Mapping[str, Tensor]) -> None:
    """Let a network that carries scores refer to the given ones, in place.

    Two networks bound to the same alphas share them: gradients of both add up in one ``.grad``.

    Args:
        network: A network with scores, for example a deep copy of one.
        alphas: Unit name -> (size,) scores, for exactly the network's scored units.

    Raises:
        ValueError: Names or sizes do not fit; nothing has been changed then.
    """
    sites = scored_sites(network)
    if not sites:
        raise ValueError("The network carries no scores to bind: call insert_scores first.")
    check_scores(alphas, sites)
    for site in sites:
        site.adapter.bind(site.host, alphas[site.unit.name])


def scored_sites(network: nn.Module) -> list[Site]:
    """The units of a network that carry scores."""
    sites, _ = locate(network, EVERYWHERE)
    return [site for site in sites if site.adapter.alpha(site.host) is not None]


def locate_to_score(
    network: nn.Module, include: Names, exclude: Names = ()
) -> tuple[list[Site], list[LeftOut]]:
    """Like :func:`locate`, but what is read from outside its host is left out as well.

    That takes a run of the network, which units that carry scores have behind them.
    """
    sites, left_out = locate(network, include, exclude)
    new = [site for site in sites if site.adapter.alpha(site.host) is None]
    found = read_outside(network, [(site.path, site.adapter) for site in new])
    reasons = {new[number].unit.name: reason for number, reason in found.items()}
    left_out += [
        LeftOut(site.unit.name, type(site.host).__name__, reasons[site.unit.name])
        for site in sites
        if site.unit.name in reasons
    ]
    return [site for site in sites if site.unit.name not in reasons], left_out


def locate(
    network: nn.Module, include: Names, exclude: Names = ()
) -> tuple[list[Site], list[LeftOut]]:
    """Like :func:`find_units`, with the layers and adapters themselves."""
    chosen = Selection(network, include, exclude)
    sharing = Sharing(network)
    sites, left_out, names = [], [], []
    for name, path, host, adapter in _claims(network):
        names.append(name)
        if name not in chosen:
            continue
        reason = adapter.unsupported_context(host, path, network) or adapter.unsupported_reason(
            host
        )
        if reason := reason or sharing.reason(host, adapter.cut(host)):
            left_out.append(LeftOut(name, type(host).__name__, reason))
        else:
            sites.append(Site(adapter.unit(name, host), path, host, adapter))
    chosen.check(names)
    return sites, left_out


def find_uncovered(
    network: nn.Module, include: Names = EVERYWHERE, exclude: Names = ()
) -> list[LeftOut]:
    """Convolutions and linear layers that belong to no unit, by the class that holds them.

    With :func:`find_units` all of them are accounted for, each with a reason.

    Args:
        network, include, exclude: As for :func:`find_units`.
    """
    chosen = Selection(network, include, exclude)
    found = uncovered(network, [(path, adapter) for _, path, _, adapter in _claims(network)])
    return [layers for layers in found if layers.name in chosen]


def _claims(network: nn.Module) -> Iterator[tuple[str, str, nn.Module, WidthAdapter]]:
    """Name, path, host and adapter of all units, also of those that have to be left out."""
    known = [adapter() for adapter in ADAPTERS.module_dict.values()]
    if attached(network) is not None:
        # Found by running the whole of it: what the classes of its layers say is in there.
        known = [adapter for adapter in known if isinstance(adapter, adapters.GroupAdapter)]
    for path, module in network.named_modules():
        for adapter in known:
            if adapter.matches(module, path, network):
                for one in adapter.split(module):
                    yield ".".join(filter(None, (path, one.part))), path, module, one


def check_scores(alphas: Mapping[str, Tensor], sites: Iterable[Site]) -> None:
    """Raise a ValueError unless ``alphas`` holds scores for exactly these units."""
    sizes = {site.unit.name: site.unit.size for site in sites}
    check_names(alphas, sizes, "scores")
    for name, size in sizes.items():
        if alphas[name].shape != (size,):
            raise ValueError(
                f"The scores of {name!r} have shape {tuple(alphas[name].shape)}, but the unit has "
                f"{size} dimensions."
            )


def check_names(given: Iterable[str], expected: Iterable[str], what: str) -> None:
    """Raise a ValueError that tells unit names apart which two mappings do not share."""
    given, expected = list(given), list(expected)
    if unknown := [name for name in given if name not in set(expected)]:
        raise ValueError(
            f"There are {what} for {_listed(unknown)}, but the network has no such unit. "
            f"{nearest(unknown[0], expected)}"
        )
    if missing := [name for name in expected if name not in set(given)]:
        raise ValueError(f"There are no {what} for {_listed(missing)}.")


def log_left_out(left_out: Iterable[LeftOut]) -> None:
    """A line for each reason."""
    names: dict[tuple[str, str], list[str]] = defaultdict(list)
    for layer in left_out:
        names[layer.type, layer.reason].append(layer.name or "the network")
    for (kind, reason), found in names.items():
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        print_log(f"left out: {found[0]}{more} ({kind}): {reason}", logger="current")


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _nothing_to_score(
    network: nn.Module, include: Names, exclude: Names, left_out: list[LeftOut]
) -> str:
    hosts = sorted({host for cls in ADAPTERS.module_dict.values() for host in cls.hosts})
    chosen = Selection(network, include, exclude)
    lines = [
        f"There is nothing to score in the {type(network).__name__} ({chosen}).",
        "Looked for layers of these types: " + ", ".join(hosts) + ".",
    ]
    if left_out := [*left_out, *find_uncovered(network, include, exclude)]:
        lines.append("Found, but left out:")
        lines.extend(f"  {layer}" for layer in left_out)
    return "\n".join(lines)
