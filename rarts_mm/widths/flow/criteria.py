"""What channels are ranked by: from the weights alone, or from a loss on data.

A channel's weights are all that go with it: the rows that write it, the columns that read it, in every layer
of its group. The parameters of norms and biases are of another scale and not looked at.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from ..derivatives import FROM_DATA, Derivatives
from ..naming import nearest
from .groups import ChannelGroup, Groups

Criterion = Callable[[ChannelGroup, Tensor, torch.Generator], Tensor]


def channel_importance(
    network: nn.Module,
    groups: Groups,
    criterion: str = "magnitude",
    seed: int = 0,
    derivatives: Callable[[], Derivatives] | None = None,
) -> dict[str, Tensor]:
    """A number for every channel of every group; the lowest go first.

    Args:
        network: the network that ``groups`` was found in.
        criterion: a key of :data:`CRITERIA` or of :data:`~rarts_mm.widths.derivatives.FROM_DATA`.
        seed: of the criterion ``'random'``.
        derivatives: measures them, for the criteria that need data.

    Returns:
        Group -> (size,) float64 numbers >= 0.

    Raises:
        ValueError: an unknown criterion, or weights that are not finite.
    """
    known = [*CRITERIA, *FROM_DATA]
    if criterion not in known:
        raise ValueError(
            f"There is no criterion {criterion!r}; known are {', '.join(known)}. "
            f"{nearest(str(criterion), known)}"
        )
    if criterion in FROM_DATA:
        return FROM_DATA[criterion](derivatives())
    parameters = dict(network.named_parameters())
    generator = torch.Generator().manual_seed(seed)
    return {
        name: CRITERIA[criterion](group, channel_weights(parameters, group), generator)
        for name, group in groups.groups.items()
    }


def channel_weights(parameters: Mapping[str, Tensor], group: ChannelGroup) -> Tensor:
    """(size, n): all weights of each channel of a group, layer by layer.

    Each layer's part is divided by the root of its number of weights per channel, so that wide kernels do
    not outweigh the rest.

    Raises:
        ValueError: one is not finite.
    """
    parts = []
    for (name, dim), where in group.places.items():
        tensor = parameters.get(name)
        if tensor is None or tensor.dim() < 2:
            continue
        rows = tensor.detach().to("cpu", torch.float64).movedim(dim, 0)
        part = rows[where].reshape(group.size, -1)
        if not bool(part.isfinite().all()):
            raise ValueError(f"The weights {name} are not finite, so there is nothing to rank by.")
        parts.append(part / max(part.shape[1], 1) ** 0.5)
    return torch.cat(parts, 1) if parts else torch.ones(group.size, 1, dtype=torch.float64)


def magnitude(group: ChannelGroup, weights: Tensor, generator: torch.Generator) -> Tensor:
    """The L2 norm over all coupled weights, relative to the group's mean (Fang et al., "DepGraph", CVPR
    2023, section 3.3, with the norm over coupled layers)."""
    del group, generator
    return _relative(weights.norm(dim=1))


def geometric_median(group: ChannelGroup, weights: Tensor, generator: torch.Generator) -> Tensor:
    """The sum of distances to the group's other channels: those in the middle can be made up for by others
    (He et al., "Filter Pruning via Geometric Median", CVPR 2019, eq. 5); relative to the group's mean."""
    del group, generator
    return _relative(torch.cdist(weights, weights).sum(1))


def random(group: ChannelGroup, weights: Tensor, generator: torch.Generator) -> Tensor:
    """Numbers drawn uniformly from [0, 1)."""
    del weights
    return torch.rand(group.size, generator=generator, dtype=torch.float64)


def _relative(numbers: Tensor) -> Tensor:
    """Groups' own scales say nothing about each other behind norms."""
    return numbers / numbers.mean().clamp_min(1e-300)


CRITERIA: dict[str, Criterion] = {
    "magnitude": magnitude,
    "geometric-median": geometric_median,
    "random": random,
}
