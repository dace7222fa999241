"""Parameters and multiply-adds of a network as functions of its widths."""

from collections import defaultdict

from torch import nn

from rarts_mm.widths.budgets import WidthCost, touched_parameters
from rarts_mm.widths.scores import scored_sites

from .complexity import WHOLE, count_flops

PARAMETERS = "parameters"
FLOPS = "FLOPs"


def parameter_cost(network: nn.Module, of: str = WHOLE) -> WidthCost:
    """Parameters as a function of the widths.

    Args:
        network: A network with scores.
        of: Path of the part that is counted; the whole network by default.
    """
    touched = touched_parameters(network)
    terms = defaultdict(float)
    # Shared parameters are counted once.
    for name, parameter in network.named_parameters():
        if _inside(name, of):
            terms[touched.get(name, frozenset())] += parameter.numel()
    return WidthCost(_unit_sizes(network), terms, PARAMETERS)


def flops_cost(network: nn.Module, size: tuple[int, int], of: str = WHOLE) -> WidthCost:
    """Multiply-adds for one image as a function of the widths; see :func:`count_flops`.

    A layer's multiply-adds go with its weight. Attention products have none: they go with the
    dimensions of the head they are in.

    Args:
        network: A network with scores.
        size: Height and width of the image, in pixels.
        of: Path of the part that is counted; the whole network by default.

    Raises:
        ValueError: The network does not run at this size.
    """
    touched = touched_parameters(network)
    attentions = {
        site.path: frozenset([site.unit.name])
        for site in scored_sites(network)
        if site.unit.kind == "attention"
    }
    terms = defaultdict(float)
    for path, flops in _own(count_flops(network, size).flops).items():
        if _inside(path, of):
            units = touched.get(f"{path}.weight") or attentions.get(path, frozenset())
            terms[units] += flops
    return WidthCost(_unit_sizes(network), terms, FLOPS)


def _own(flops: dict[str, int]) -> dict[str, int]:
    """What each module multiplies itself, without its children."""
    own = dict(flops)
    for path, count in flops.items():
        parent = path
        while parent:
            parent = parent.rpartition(".")[0]
            if parent in flops:
                own[parent] -= count
                break
    return {path: count for path, count in own.items() if count}


def _inside(path: str, part: str) -> bool:
    return part == WHOLE or path == part or path.startswith(f"{part}.")


def _unit_sizes(network: nn.Module) -> dict[str, int]:
    return {site.unit.name: site.unit.size for site in scored_sites(network)}
