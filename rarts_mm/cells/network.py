"""The DARTS search network: every edge of every cell holds all operations, weighted by alpha."""

import torch
from torch import Tensor, nn

from rarts_mm.registry import MODELS

from .mixing import mix
from .operations import OPERATIONS, FactorizedReduction, ReLUConvBN, build_operation
from .relaxations import Relaxation
from .searchable import SearchableNetwork

NORMAL, REDUCTION = "normal", "reduce"


def count_edges(nodes: int) -> int:
    """Edges of a cell: node i reads the cell's two inputs and the nodes before it."""
    return sum(2 + i for i in range(nodes))


class MixedOperation(nn.Module):
    """All operations on one edge; the output is their sum, weighted (thesis, section 3; DARTS, eq. 2).

    The search network computes the edges that leave a node together (:func:`~.mixing.mix`); this
    forward pass is the literal sum.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.operations = nn.ModuleList(
            build_operation(name, channels, stride, affine=False, normed_pools=True)
            for name in OPERATIONS
        )

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """(N, C, H, W) and (operations,) -> (N, C, H / stride, W / stride)."""
        # "none" stands first and adds nothing; its share is what the others lack.
        pairs = zip(weights[1:].to(x.dtype), self.operations[1:], strict=True)
        return sum(weight * operation(x) for weight, operation in pairs)


class SearchCell(nn.Module):
    """A cell of the search network: two inputs, some nodes, a mixed edge from each to each behind it.

    Args:
        before, last: channels of the outputs of the cell before the last one, and of the last one.
        channels: width of the cell; its output has ``nodes`` times as many.
        reduces: whether this cell halves height and width.
        last_reduced: whether the last cell did.
        nodes: that compute something; the output is all of theirs.
    """

    def __init__(
        self,
        before: int,
        last: int,
        channels: int,
        reduces: bool,
        last_reduced: bool,
        nodes: int = 4,
    ) -> None:
        super().__init__()
        self.nodes = nodes
        fit = FactorizedReduction if last_reduced else ReLUConvBN
        self.fit_before = fit(before, channels, affine=False)
        self.fit_last = ReLUConvBN(last, channels, affine=False)
        self.kind = REDUCTION if reduces else NORMAL
        self.channels = self.width = channels
        self.edges = self._edges()

    def _edges(self) -> nn.ModuleList:
        return nn.ModuleList(
            MixedOperation(self.width, self._stride(source))
            for node in range(self.nodes)
            for source in range(2 + node)
        )

    def _stride(self, source: int) -> int:
        return 2 if self.kind == REDUCTION and source < 2 else 1

    def fit_width(self, relaxation: Relaxation) -> None:
        """Build the operations anew if the relaxation wants another width of them."""
        width = relaxation.width(self.channels)
        if width != self.width:
            self.width = width
            self.edges = self._edges()

    def forward(
        self, before: Tensor, last: Tensor, weights: Tensor, relaxation: Relaxation
    ) -> Tensor:
        """The last two cells' outputs and (edges, operations) -> (N, nodes * channels, H, W)."""
        states = [self.fit_before(before), self.fit_last(last)]
        sums: list[Tensor | None] = [None] * self.nodes
        for source in range(self.nodes + 1):
            if source >= 2:
                # All edges that enter this node leave nodes before it.
                states.append(sums[source - 2])
            x, stride = states[source], self._stride(source)
            nodes = range(max(source - 1, 0), self.nodes)
            # Node i's edges follow those of the nodes before it, which have 2, 3, ... inputs.
            chosen = [i * (i + 3) // 2 + source for i in nodes]
            edges = [self.edges[edge] for edge in chosen]
            for node, mixed in zip(
                nodes, mix(relaxation.enter(x), edges, weights[chosen], stride), strict=True
            ):
                out = relaxation.leave(x, mixed, stride)
                sums[node] = out if sums[node] is None else sums[node].add_(out)
        return torch.cat([*states[2:], sums[-1]], dim=1)


@MODELS.register_module()
class DARTSSearchNetwork(SearchableNetwork):
    """The search network of DARTS as a backbone of MMPretrain's ``ImageClassifier``.

    Alpha is not registered here: :class:`~rarts_mm.cells.CellSpace` makes one of (14, 8), for four
    nodes, for each kind of cell, shared by all cells of the kind, and this network refers to it.
    Sizes that a cell cannot halve are rounded up.

    Args:
        channels: C, the width of the first cells.
        layers: number of cells; those at a third and at two thirds reduce.
        in_channels: of the images.
        nodes: of each cell; the papers' cells have four.
    """

    def __init__(
        self,
        channels: int = 16,
        layers: int = 8,
        in_channels: int = 3,
        nodes: int = 4,
        init_cfg: dict | None = None,
    ) -> None:
        if layers < 3:
            raise ValueError(
                f"DARTSSearchNetwork: layers={layers} must be at least 3, two of which reduce"
            )
        if nodes < 1:
            raise ValueError(f"DARTSSearchNetwork: nodes={nodes} must be at least 1")
        shape = (count_edges(nodes), len(OPERATIONS))
        super().__init__(dict.fromkeys((NORMAL, REDUCTION), shape), init_cfg)
        self.nodes = nodes
        stem = 3 * channels
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, stem, 3, padding=1, bias=False), nn.BatchNorm2d(stem)
        )
        self.cells = nn.ModuleList()
        before, last, reduced = stem, stem, False
        for i in range(layers):
            reduces = i in (layers // 3, 2 * layers // 3)
            channels = 2 * channels if reduces else channels
            self.cells.append(SearchCell(before, last, channels, reduces, reduced, nodes))
            before, last, reduced = last, nodes * channels, reduces
        self.out_channels = last

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """(N, in_channels, H, W) -> ((N, out_channels, H / 4, W / 4),), sizes rounded up."""
        before = last = self.enter(x)
        weights = self.weights(last)
        for cell in self.cells:
            before, last = last, cell(before, last, weights[cell.kind], self.relaxation)
        return (last,)
