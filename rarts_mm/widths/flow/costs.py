"""What a network's channels cost: parameters and multiply-adds as polynomials in the groups' widths."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from ..budgets.cost import WidthCost
from .groups import Groups

PARAMETERS = "parameters"
FLOPS = "FLOPs"


def parameter_cost(
    network: nn.Module, groups: Groups, part: Callable[[str], bool] | None = None
) -> WidthCost:
    """The parameters, those that have several names once.

    Args:
        network: the network that ``groups`` was found in.
        part: whether a parameter, by its name, is counted; all by default.
    """
    group_of = _group_of(groups)
    terms: dict[tuple[str, ...], float] = defaultdict(float)
    for name, parameter in network.named_parameters():
        if part is not None and not part(name):
            continue
        places = [groups.places.get((name, dim)) for dim in range(parameter.dim())]
        vectors = [torch.arange(place.start, place.start + place.size) for place in places if place]
        _add(terms, parameter.numel(), vectors, group_of, groups)
    return WidthCost(groups.sizes, terms, PARAMETERS)


def flop_cost(groups: Groups, counts: Mapping[str, int] | None = None) -> WidthCost:
    """The multiply-adds of convolutions, linear layers and products of activations in the example's run.

    Args:
        counts: path of a module -> its own multiply-adds in another run, of images of another size; they
            go to the module's products in proportion. Modules that are not in it are not counted.
    """
    group_of = _group_of(groups)
    terms: dict[tuple[str, ...], float] = defaultdict(float)
    whole: dict[str, int] = defaultdict(int)
    for product in groups.products:
        whole[product.where] += product.count
    for product in groups.products:
        factor = 1.0
        if counts is not None:
            factor = counts.get(product.where, 0) / max(whole[product.where], 1)
        _add(terms, product.count * factor, product.vectors, group_of, groups)
    for path, count in (counts or {}).items():
        # What the example did not run.
        if path not in whole:
            terms[()] += count
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
