"""By what the dimensions of a searched network are ranked before the lowest share goes.

A criterion gives every dimension of every unit a number that :func:`~rarts_mm.widths.rank_scores`
compares over the whole network. Another criterion is another function in ``CRITERIA``.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .scores import nearest, scored_sites

Criterion = Callable[[nn.Module, int], dict[str, Tensor]]

DEFAULT = "alpha"


def importance(network: nn.Module, criterion: str = DEFAULT, seed: int = 0) -> dict[str, Tensor]:
    """The importance of every scored dimension of a network.

    Args:
        network: A network that carries scores.
        criterion: A key of ``CRITERIA``.
        seed: Non-negative; only ``'random'`` reads it.

    Returns:
        Unit name -> (size,) numbers >= 0, of which the lowest go first.

    Raises:
        ValueError: An unknown criterion, a network without scores, or numbers that the criterion
            cannot rank by.
    """
    if criterion not in CRITERIA:
        raise ValueError(
            f"There is no criterion {criterion!r}; known are {', '.join(CRITERIA)}. "
            f"{nearest(str(criterion), CRITERIA)}"
        )
    if not scored_sites(network):
        raise ValueError("The network carries no scores, so there is nothing to rank.")
    return CRITERIA[criterion](network, seed)


def by_alpha(network: nn.Module, seed: int) -> dict[str, Tensor]:
    """|alpha|, compared over the whole network (thesis, section 4.3).

    Raises:
        ValueError: All scores are equal: no search has moved them, so they say nothing.
    """
    del seed
    scores = {s.unit.name: s.adapter.alpha(s.host).detach().abs() for s in scored_sites(network)}
    everything = torch.cat([score.flatten() for score in scores.values()])
    if everything.numel() > 1 and bool((everything == everything[0]).all()):
        raise ValueError(
            f"All {everything.numel()} scores are {everything[0].item():g}: the search has not moved "
            "alpha, so there is nothing to rank by. Search with an alternation that moves it (such as "
            "RARTS), or rank by something else: --criterion magnitude or --criterion random"
        )
    return scores


def by_magnitude(network: nn.Module, seed: int) -> dict[str, Tensor]:
    """The place of a dimension's weights among those of its unit, by their L1 norm.

    The norm is that of the rows that write the dimension: of W_1 in an MLP, of W_q, W_k and W_v in
    all heads in an attention; without biases and without alpha. Norms of different layers say little
    about each other, so dimensions are compared within their layer and every layer loses the same
    share, as in Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017, where no layer is
    spared by hand. So the number returned is the dimension's rank, in (0, 1).

    Raises:
        ValueError: A weight is NaN or infinite.
    """
    del seed
    ranks = {}
    for site in scored_sites(network):
        weight = site.adapter.weight(site.host).detach().to("cpu", torch.float64)
        if not bool(weight.isfinite().all()):
            raise ValueError(
                f"The weights of {site.unit.name} are not finite, so their norms cannot be ranked: "
                "the search has diverged. Go back to an earlier checkpoint."
            )
        norms = weight.abs().flatten(1).sum(1).view(-1, site.unit.size).sum(0)
        # Stable: of equal norms, those at the end go first, as in rank_scores.
        order = norms.flip(0).argsort(stable=True)
        rank = torch.empty_like(norms)
        rank[order] = (torch.arange(site.unit.size, dtype=norms.dtype) + 0.5) / site.unit.size
        ranks[site.unit.name] = rank.flip(0)
    return ranks


def by_random(network: nn.Module, seed: int) -> dict[str, Tensor]:
    """Numbers drawn uniformly from [0, 1), compared over the whole network (I, Table 6, "random").

    They depend on the seed and on the units' names and sizes alone.

    Raises:
        ValueError: A seed that is no whole number >= 0.
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"The seed must be a whole number of at least 0, got {seed!r}.")
    generator = torch.Generator().manual_seed(seed)
    sizes = {site.unit.name: site.unit.size for site in scored_sites(network)}
    drawn = {
        name: torch.rand(sizes[name], generator=generator, dtype=torch.float64)
        for name in sorted(sizes)
    }
    return {name: drawn[name] for name in sizes}


CRITERIA: dict[str, Criterion] = {
    "alpha": by_alpha,
    "magnitude": by_magnitude,
    "random": by_random,
}
