"""Networks of the NATS-Bench topology space: the one that is searched, and that of an architecture."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from rarts_mm.registry import MODELS

from ..mixing import is_changed, norm_weights, weighted_sums
from ..relaxations import Relaxation
from ..searchable import SearchableNetwork
from .architecture import EDGES, NODES, NATSArchitecture
from .operations import KERNELS, NATS_OPERATIONS, ReductionBlock, build_nats_operation

CELL = "cell"
_COLUMN = {name: i for i, name in enumerate(NATS_OPERATIONS)}


class NATSMixedOperation(nn.Module):
    """All operations on one edge; the output is their weighted sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.operations = nn.ModuleList(
            build_nats_operation(name, channels, plain=True) for name in NATS_OPERATIONS
        )

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """(N, C, H, W) and (operations,) -> (N, C, H, W)."""
        pairs = zip(weights[1:].to(x.dtype), self.operations[1:], strict=True)
        return sum(weight * operation(x) for weight, operation in pairs)


def mix(x: Tensor, edges: Sequence[NATSMixedOperation], weights: Tensor) -> list[Tensor]:
    """The weighted sums of the operations of edges that all read ``x``, (N, C, H, W) each.

    Their convolutions of one kind are one convolution with as many times the outputs; the rest is as
    in the DARTS space (:mod:`rarts_mm.cells.mixing`).
    """
    norms = [edge.operations[_COLUMN[name]][2] for edge in edges for name in KERNELS]
    if any(is_changed(m) for edge in edges for m in (edge, *edge.operations)) or any(
        type(norm) is not nn.BatchNorm2d or norm.affine or norm.track_running_stats
        for norm in norms
    ):
        return [edge(x, row) for edge, row in zip(edges, weights, strict=True)]
    positive = F.relu(x)
    total = None
    for name, kernel in KERNELS.items():
        units = [edge.operations[_COLUMN[name]] for edge in edges]
        y = F.conv2d(positive, torch.cat([unit[1].weight for unit in units]), padding=kernel // 2)
        each = weights[:, _COLUMN[name]].repeat_interleave(y.shape[1] // len(edges))
        scale, shift = norm_weights(each, y)
        y = F.batch_norm(y, None, None, scale, shift, training=True, eps=units[0][2].eps)
        total = y if total is None else total.add_(y)
    pool = edges[0].operations[_COLUMN["avg_pool_3x3"]]
    columns = [_COLUMN["avg_pool_3x3"], _COLUMN["skip_connect"]]
    shared = weighted_sums([pool(x), x], weights[:, columns])
    return [a + b for a, b in zip(total.chunk(len(edges), dim=1), shared, strict=True)]


class NATSSearchCell(nn.Module):
    """A cell of the search network: six mixed edges between four nodes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = self.width = channels
        self.edges = self._edges()

    def _edges(self) -> nn.ModuleList:
        return nn.ModuleList(NATSMixedOperation(self.width) for _ in EDGES)

    def fit_width(self, relaxation: Relaxation) -> None:
        """Build the operations anew if the relaxation wants another width of them."""
        width = relaxation.width(self.channels)
        if width != self.width:
            self.width = width
            self.edges = self._edges()

    def forward(self, x: Tensor, weights: Tensor, relaxation: Relaxation) -> Tensor:
        """(N, C, H, W) and (6, 5) -> (N, C, H, W)."""
        sums: dict[int, Tensor] = {0: x}
        for source in range(NODES - 1):
            x = sums[source]
            chosen = [i for i, (_, start) in enumerate(EDGES) if start == source]
            edges = [self.edges[i] for i in chosen]
            for i, mixed in zip(
                chosen, mix(relaxation.enter(x), edges, weights[chosen]), strict=True
            ):
                node, out = EDGES[i][0], relaxation.leave(x, mixed, 1)
                sums[node] = sums[node] + out if node in sums else out
        return sums[NODES - 1]


class NATSCell(nn.Module):
    """A cell of one architecture."""

    def __init__(self, channels: int, architecture: NATSArchitecture) -> None:
        super().__init__()
        self.operations = nn.ModuleList(
            build_nats_operation(name, channels) for name in architecture.operations
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        nodes = [x]
        operations = iter(self.operations)
        for node in range(1, NODES):
            nodes.append(sum(next(operations)(nodes[source]) for source in range(node)))
        return nodes[-1]


def _build_stages(
    channels: int, repeats: int, build_cell: Callable[[int], nn.Module]
) -> tuple[nn.ModuleList, int]:
    """Three stages of cells, the width doubling between them; and the last width."""
    cells = nn.ModuleList()
    for stage in range(3):
        if stage:
            cells.append(ReductionBlock(channels, 2 * channels))
            channels *= 2
        cells.extend(build_cell(channels) for _ in range(repeats))
    return cells, channels


def _check_sizes(kind: str, channels: int, repeats: int) -> None:
    for name, value in (("channels", channels), ("repeats", repeats)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{kind}: {name} must be a whole number >= 1, got {value!r}")


def _stem(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
    )


def _end(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())


@MODELS.register_module()
class NATSSearchNetwork(SearchableNetwork):
    """The search network of the NATS-Bench topology space as a backbone of ``ImageClassifier``.

    Stem, ``repeats`` cells, a residual block that halves the size and doubles the width, ``repeats``
    cells, such a block, ``repeats`` cells, batch norm and ReLU. The batch norms of the candidate
    operations have neither weights nor running statistics, as in the authors' search: they normalise by
    the batch in validation too.

    Args:
        channels: C, the width of the first cells.
        repeats: N, the number of cells of each of the three stages.
        in_channels: of the images, whose sides must be divisible by 4.
    """

    def __init__(
        self,
        channels: int = 16,
        repeats: int = 5,
        in_channels: int = 3,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__({CELL: (len(EDGES), len(NATS_OPERATIONS))}, init_cfg)
        _check_sizes(type(self).__name__, channels, repeats)
        self.stem = _stem(in_channels, channels)
        self.cells, self.out_channels = _build_stages(channels, repeats, NATSSearchCell)
        self.end = _end(self.out_channels)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """(N, in_channels, H, W) -> ((N, 4 C, H / 4, W / 4),).

        Raises:
            ValueError: H or W is not divisible by 4.
        """
        x = self.enter(x)
        weights = self.weights(x)[CELL]
        for cell in self.cells:
            x = cell(x, weights, self.relaxation) if isinstance(cell, NATSSearchCell) else cell(x)
        return (self.end(x),)


@MODELS.register_module()
class NATSNetwork(BaseModule):
    """The network of one architecture of the NATS-Bench topology space, to train and to test.

    Args:
        architecture: NATS-Bench's string, or what :meth:`NATSArchitecture.to_dict` gives.
        channels, repeats, in_channels: as of :class:`NATSSearchNetwork`.
    """

    def __init__(
        self,
        architecture: str | Mapping[str, Any],
        channels: int = 16,
        repeats: int = 5,
        in_channels: int = 3,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        _check_sizes(type(self).__name__, channels, repeats)
        self.architecture = NATSArchitecture.parse(architecture)
        self.stem = _stem(in_channels, channels)
        self.cells, self.out_channels = _build_stages(
            channels, repeats, lambda width: NATSCell(width, self.architecture)
        )
        self.end = _end(self.out_channels)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """(N, in_channels, H, W) -> ((N, 4 C, H / 4, W / 4),).

        Raises:
            ValueError: H or W is not divisible by 4.
        """
        x = self.stem(x)
        for cell in self.cells:
            x = cell(x)
        return (self.end(x),)
