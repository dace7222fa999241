"""Parameters and multiply-adds of a network as functions of its widths."""

from collections import defaultdict
from functools import cached_property

from torch import nn

from rarts_mm.widths.budgets import WidthCost, touched_parameters
from rarts_mm.widths.flow.attached import attached
from rarts_mm.widths.flow.costs import flop_cost, parameter_cost
from rarts_mm.widths.scores import Site, scored_sites
from rarts_mm.widths.sharing import Sharing

from .complexity import WHOLE, count_flops

PARAMETERS = "parameters"
FLOPS = "FLOPs"


class WidthCosts:
    """What the parts of a network cost as functions of its widths; counted once for all parts.

    Args:
        network: A network with scores, which stays as it is.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._flops: dict[tuple[int, int], dict[str, int]] = {}

    def parameters(self, of: str = WHOLE) -> WidthCost:
        """Parameters of a part, given by its path; the whole network by default."""
        groups = attached(self.network)
        if groups is not None:
            return parameter_cost(self.network, groups, lambda name: _inside(name, of))
        terms = defaultdict(float)
        # Shared parameters are counted once.
        for name, parameter in self.network.named_parameters():
            if _inside(name, of):
                terms[self._touched.get(name, frozenset())] += parameter.numel()
        return WidthCost(self._sizes, terms, PARAMETERS)

    def flops(self, size: tuple[int, int], of: str = WHOLE) -> WidthCost:
        """Multiply-adds of a part, or of the whole network, for one image; see :func:`count_flops`.

        A layer's multiply-adds go with its weight. Attention products have none: they go with the
        dimensions of the head they are in.

        Args:
            size: Height and width of the image, in pixels.
            of: Path of the part.

        Raises:
            ValueError: The network does not run at this size.
        """
        if size not in self._flops:
            self._flops[size] = _own(count_flops(self.network, size).flops)
        groups = attached(self.network)
        if groups is not None:
            counts = {p: n for p, n in self._flops[size].items() if _inside(p, of)}
            return flop_cost(groups, counts)
        # A host that stands at several places is counted under any of them.
        sharing = Sharing(self.network)
        attentions = {
            path: frozenset([site.unit.name])
            for site in self._sites
            if site.unit.kind == "attention"
            for path in sharing.places(site.host)
        }
        terms = defaultdict(float)
        for path, flops in self._flops[size].items():
            if _inside(path, of):
                units = self._touched.get(f"{path}.weight") or attentions.get(path, frozenset())
                terms[units] += flops
        return WidthCost(self._sizes, terms, FLOPS)

    @cached_property
    def _sites(self) -> list[Site]:
        return scored_sites(self.network)

    @cached_property
    def _touched(self) -> dict[str, frozenset[str]]:
        return touched_parameters(self.network)

    @property
    def _sizes(self) -> dict[str, int]:
        return {site.unit.name: site.unit.size for site in self._sites}


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
