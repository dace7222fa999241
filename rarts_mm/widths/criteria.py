"""By what the dimensions of a searched network are ranked before the lowest share goes.

A criterion gives every dimension of every unit a number that :func:`~rarts_mm.widths.rank_scores`
compares over the whole network. Another criterion is another function in ``CRITERIA``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .budgets.cost import WidthCost
from .derivatives import Derivatives, group_fisher, taylor
from .naming import nearest
from .scores import scored_sites, scores_of

DEFAULT = "alpha"


@dataclass(frozen=True)
class CriterionInputs:
    """What a criterion may look at.

    Attributes:
        network: A network that carries scores.
        alphas: Unit name -> (size,), what the search learned.
        cost: What widths cost.
        seed: For random numbers.
        derivatives: Measures what the loss on data says about the scores.
    """

    network: nn.Module
    alphas: Mapping[str, Tensor]
    cost: WidthCost
    seed: int
    derivatives: Callable[[], Derivatives] | None = None


Criterion = Callable[[CriterionInputs], dict[str, Tensor]]


def importance(
    network: nn.Module,
    criterion: str = DEFAULT,
    seed: int = 0,
    alphas: Mapping[str, Tensor] | None = None,
    cost: WidthCost | None = None,
    derivatives: Callable[[], Derivatives] | None = None,
) -> dict[str, Tensor]:
    """The importance of every scored dimension of a network.

    Args:
        network: A network that carries scores.
        criterion: A key of ``CRITERIA``.
        seed: Non-negative; only ``'random'`` reads it.
        alphas: Unit name -> (size,), what the search learned, where that is not what the network
            carries: batch norm scales for example.
        cost: What widths cost; ``'alpha-per-cost'`` needs it, the others do not read it.
        derivatives: Measures the loss on data
            (:func:`~rarts_mm.widths.derivatives.measure_derivatives`); ``'taylor'`` and ``'fisher'`` need
            it, the others do not call it.

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
    carried = scores_of(network)
    if not carried:
        raise ValueError("The network carries no scores, so there is nothing to rank.")
    if cost is None:
        cost = WidthCost.of_scores({name: alpha.numel() for name, alpha in carried.items()})
    return CRITERIA[criterion](CriterionInputs(network, alphas or carried, cost, seed, derivatives))


def by_alpha(inputs: CriterionInputs) -> dict[str, Tensor]:
    """|alpha|, compared over the whole network (thesis, section 4.3).

    Raises:
        ValueError: All scores are equal: no search has moved them, so they say nothing.
    """
    scores = {name: alpha.detach().abs() for name, alpha in inputs.alphas.items()}
    everything = torch.cat([score.flatten() for score in scores.values()])
    if not everything.any():
        raise ValueError(
            f"All {everything.numel()} scores are exactly zero: the penalty has switched everything off, "
            "so there is nothing to rank by. Search with a smaller gamma (optim_wrapper.penalty.gamma), "
            "or rank by something else: --criterion magnitude or --criterion random"
        )
    if everything.numel() > 1 and bool((everything == everything[0]).all()):
        raise ValueError(
            f"All {everything.numel()} scores are {everything[0].item():g}: the search has not moved "
            "alpha, so there is nothing to rank by. Search with an alternation that moves it (such as "
            "RARTS), or rank by something else: --criterion magnitude or --criterion random"
        )
    return scores


def by_alpha_norm(inputs: CriterionInputs) -> dict[str, Tensor]:
    """|alpha| times the L2 norm of the weights that it multiplies, relative to its unit's mean norm.

    A score and these weights can trade a factor without changing the function; their product does not
    notice, so that the order within a unit is that of what counts. The division leaves the comparison
    between units to alpha. Behind a batch norm they are the
    weights that read the channel, elsewhere those that write the dimension.

    Raises:
        ValueError: A weight is NaN or infinite; or as for :func:`by_alpha`.
    """
    scores = by_alpha(inputs)
    for site in scored_sites(inputs.network):
        name = site.unit.name
        weight = _finite(site.adapter.scaled_weight(site.host), name)
        norms = weight.flatten(1).square().sum(1).view(-1, site.unit.size).sum(0).sqrt()
        scores[name] = scores[name].to(norms) * norms / norms.mean().clamp_min(1e-300)
    return scores


def by_alpha_per_cost(inputs: CriterionInputs) -> dict[str, Tensor]:
    """|alpha| over what the dimension costs at full width, in parameters or in FLOPs.

    A cheap dimension stays where a dear one of the same score goes.

    Raises:
        ValueError: As for :func:`by_alpha`.
    """
    costs = inputs.cost.per_dimension()
    # What costs nothing is no cheaper than the cheapest: a quotient has to be a number.
    least = min((cost for cost in costs.values() if cost), default=1.0)
    return {n: score.double() / max(costs[n], least) for n, score in by_alpha(inputs).items()}


def by_magnitude(inputs: CriterionInputs) -> dict[str, Tensor]:
    """The place of a dimension's weights among those of its unit, by their L1 norm.

    The norm is that of the rows that write the dimension: of W_1 in an MLP, of W_q, W_k and W_v in
    all heads in an attention; without biases and without alpha. Norms of different layers say little
    about each other, so dimensions are compared within their layer and every layer loses the same
    share, as in Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017, where no layer is
    spared by hand. So the number returned is the dimension's rank, in (0, 1).

    Raises:
        ValueError: A weight is NaN or infinite.
    """
    return {name: _places(rows.abs().sum(1)) for name, rows in _rows(inputs).items()}


def by_geometric_median(inputs: CriterionInputs) -> dict[str, Tensor]:
    """The place of a dimension's weights among those of its unit, by their distance to all of them.

    Those in the middle, near the geometric median, can be made up for by others, and go first (He et al.,
    "Filter Pruning via Geometric Median", CVPR 2019, eq. 5). Compared within the layer, as for
    :func:`by_magnitude`.

    Raises:
        ValueError: A weight is NaN or infinite.
    """
    return {n: _places(torch.cdist(rows, rows).sum(1)) for n, rows in _rows(inputs).items()}


def _rows(inputs: CriterionInputs) -> dict[str, Tensor]:
    """Unit name -> (size, any) the weights that write each dimension, of a group of channels all that go
    with it."""
    found = {}
    for site in scored_sites(inputs.network):
        weight = _finite(site.adapter.weight(site.host), site.unit.name).flatten(1)
        # Several rows for each dimension: those of all heads, of queries, keys and values.
        rows = weight.view(-1, site.unit.size, weight.shape[1])
        found[site.unit.name] = rows.transpose(0, 1).flatten(1)
    return found


def _places(numbers: Tensor) -> Tensor:
    """The place of each among all, in (0, 1)."""
    # Stable: of equal numbers, those at the end go first, as in rank_scores.
    order = numbers.flip(0).argsort(stable=True)
    place = torch.empty_like(numbers)
    place[order] = (torch.arange(len(numbers), dtype=numbers.dtype) + 0.5) / len(numbers)
    return place.flip(0)


def by_random(inputs: CriterionInputs) -> dict[str, Tensor]:
    """Numbers drawn uniformly from [0, 1), compared over the whole network (I, Table 6, "random").

    They depend on the seed and on the units' names and sizes alone.

    Raises:
        ValueError: A seed that is no whole number >= 0.
    """
    seed = inputs.seed
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"The seed must be a whole number of at least 0, got {seed!r}.")
    generator = torch.Generator().manual_seed(seed)
    sizes = {site.unit.name: site.unit.size for site in scored_sites(inputs.network)}
    drawn = {
        name: torch.rand(sizes[name], generator=generator, dtype=torch.float64)
        for name in sorted(sizes)
    }
    return {name: drawn[name] for name in sizes}


def by_taylor(inputs: CriterionInputs) -> dict[str, Tensor]:
    """What the loss changes by, to first order: :func:`~rarts_mm.widths.derivatives.taylor`."""
    return taylor(_derivatives(inputs))


def by_fisher(inputs: CriterionInputs) -> dict[str, Tensor]:
    """To second order, over memory: :func:`~rarts_mm.widths.derivatives.group_fisher`.

    Raises:
        ValueError: The memory of the dimensions' maps is not known.
    """
    derivatives = _derivatives(inputs)
    if not derivatives.memory:
        raise ValueError(
            "Fisher's criterion divides by the memory that a channel's maps take, which is known for the "
            "channels of whole networks: search with model.space=dict(type='ChannelSpace'), or rank by "
            "--criterion taylor."
        )
    return group_fisher(derivatives)


def _derivatives(inputs: CriterionInputs) -> Derivatives:
    if inputs.derivatives is None:
        raise ValueError("This criterion looks at the loss on data; give derivatives.")
    return inputs.derivatives()


def _finite(weight: Tensor, name: str) -> Tensor:
    weight = weight.detach().to("cpu", torch.float64)
    if not bool(weight.isfinite().all()):
        raise ValueError(
            f"The weights of {name} are not finite, so their norms cannot be ranked: the search has "
            "diverged. Go back to an earlier checkpoint."
        )
    return weight


CRITERIA: dict[str, Criterion] = {
    "alpha": by_alpha,
    "alpha-norm": by_alpha_norm,
    "alpha-per-cost": by_alpha_per_cost,
    "magnitude": by_magnitude,
    "geometric-median": by_geometric_median,
    "random": by_random,
    "taylor": by_taylor,
    "fisher": by_fisher,
}
