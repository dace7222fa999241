"""A cell of a derived network: every node adds up two operations."""

import torch
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn

from ..genotype import Genotype
from ..network import NORMAL, REDUCTION
from ..operations import FactorizedReduction, ReLUConvBN, build_operation


class Edge(nn.Module):
    """One operation, and the drop path behind it (none behind an identity).

    Args:
        name: of the operation.
        channels: of input and output.
        stride: 1 or 2.
    """

    def __init__(self, name: str, channels: int, stride: int) -> None:
        super().__init__()
        # Batch norms have weights here, and pools have no batch norm.
        self.operation = build_operation(name, channels, stride, affine=True, normed_pools=False)
        identity = isinstance(self.operation, nn.Identity)
        self.drop_path = nn.Identity() if identity else DropPath(0.0)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H / stride, W / stride); dropped for whole samples in training."""
        return self.drop_path(self.operation(x))


class Cell(nn.Module):
    """A cell of a genotype: two inputs, nodes of two edges each, some of the nodes concatenated.

    Args:
        genotype: of which one kind of cell is built.
        before, last: channels of the outputs of the cell before the last one, and of the last one.
        channels: width of each node.
        reduces: whether this cell halves height and width.
        last_reduced: whether the last cell did.

    Attributes:
        out_channels: width times the number of concatenated nodes.
    """

    def __init__(
        self,
        genotype: Genotype,
        before: int,
        last: int,
        channels: int,
        reduces: bool,
        last_reduced: bool,
    ) -> None:
        super().__init__()
        kind = REDUCTION if reduces else NORMAL
        fit = FactorizedReduction if last_reduced else ReLUConvBN
        self.fit_before = fit(before, channels, affine=True)
        self.fit_last = ReLUConvBN(last, channels, affine=True)
        pairs = [pair for node in genotype.nodes(kind) for pair in node]
        self.sources = tuple(source for _, source in pairs)
        self.edges = nn.ModuleList(
            # Only what comes from outside is halved.
            Edge(name, channels, 2 if reduces and source < 2 else 1)
            for name, source in pairs
        )
        self.concat = getattr(genotype, f"{kind}_concat")
        self.out_channels = channels * len(self.concat)

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        """The last two cells' outputs -> (N, out_channels, H, W), H and W halved in a reduction."""
        states = [self.fit_before(before), self.fit_last(last)]
        for i in range(0, len(self.edges), 2):
            first, second = (self.edges[k](states[self.sources[k]]) for k in (i, i + 1))
            states.append(first + second)
        return torch.cat([states[node] for node in self.concat], dim=1)
