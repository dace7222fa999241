"""What a network's channels cost: parameters and multiply-adds as polynomials in the groups' widths."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from ..budgets.cost import WidthCost
from .groups import Groups

PARAMETERS = "parameters"
FLOPS = "FLOPs"


def parameter_cost(network: nn.Module, groups: Groups) -> WidthCost:
    """The parameters, those that have several names once.

    Args:
        network: the network that ``groups`` was found in.
    """
    group_of = _group_of(groups)
    terms: dict[tuple[str, ...], float] = defaultdict(float)
    for name, parameter in network.named_parameters():
        places = [groups.places.get((name, dim)) for dim in range(parameter.dim())]
        vectors = [torch.arange(place.start, place.start + place.size) for place in places if place]
        _add(terms, parameter.numel(), vectors, group_of, groups)
    return WidthCost(groups.sizes, terms, PARAMETERS)


def flop_cost(groups: Groups) -> WidthCost:
    """The multiply-adds of convolutions, linear layers and products of activations in the example's run."""
    group_of = _group_of(groups)
    terms: dict[tuple[str, ...], float] = defaultdict(float)
    for product in groups.products:
        _add(terms, product.count, product.vectors, group_of, groups)
    return WidthCost(groups.sizes, terms, FLOPS)


def _group_of(groups: Groups) -> dict[int, str]:
    """Root -> the group that its class is in."""
    found = {}
    for name, group in groups.groups.items():
        for key, where in group.places.items():
            roots = groups.atoms.roots(groups.places[key].start + where.flatten())
            found.update(dict.fromkeys(roots.tolist(), name))
    return found


def _add(
    terms: dict[tuple[str, ...], float],
    value: float,
    vectors: Iterable[Tensor],
    group_of: Mapping[int, str],
    groups: Groups,
) -> None:
    """Add a cost that is in proportion to the product of what is left of each vector."""
    parts: dict[tuple[str, ...], float] = {(): float(value)}
    for vector in vectors:
        names = Counter(group_of.get(root, "") for root in groups.atoms.roots(vector).tolist())
        if list(names) == [""]:
            continue
        parts, before = defaultdict(float), parts
        for units, amount in before.items():
            for name, count in names.items():
                key = tuple(sorted((*units, name))) if name else units
                parts[key] += amount * count / len(vector)
    for units, amount in parts.items():
        terms[units] += amount
