"""Which dimensions a ratio removes."""

from collections.abc import Mapping

from torch import Tensor

from .budgets.cost import WidthCost
from .budgets.filling import floor_of, is_small, keep_within, smallest_width, step_of


def rank_scores(
    alphas: Mapping[str, Tensor],
    ratio: float,
    min_keep: int = 1,
    round_to: int = 1,
    scope: str = "global",
    kinds: Mapping[str, str] | None = None,
    multiples: Mapping[str, int] | None = None,
) -> dict[str, Tensor]:
    """Sort all scores of a network by |alpha| together and remove the lowest share.

    ``round(ratio * total)`` dimensions go, the smallest |alpha| first, except that no unit gets below
    its floor (thesis, section 4.3, with a floor to keep every layer alive). The result depends on names
    and values alone, not on the order of ``alphas``.

    Args:
        alphas: Unit name -> (size,) scores, or the numbers of another criterion
            (:func:`~rarts_mm.widths.importance`).
        ratio: Share of all scores to remove, in (0, 1).
        min_keep: Dimensions that every unit keeps at least; smaller units stay whole.
        round_to, scope, kinds, multiples: See :func:`~rarts_mm.widths.budgets.keep_within`. With ``round_to`` up
            to one block per unit more may go, so that the widths are multiples.

    Returns:
        Unit name -> (kept,) sorted int64 indices of the dimensions to keep, on the CPU.

    Raises:
        ValueError: A bad ratio or floor, a score that is not finite, or a ratio that the floors
            make impossible.
    """
    if not isinstance(ratio, int | float) or isinstance(ratio, bool) or not 0 < ratio < 1:
        raise ValueError(
            f"The ratio must be a number between 0 and 1, exclusive (0.4 removes 40 %), "
            f"got {ratio!r}."
        )
    sizes = {name: alpha.numel() for name, alpha in alphas.items()}
    total = sum(sizes.values())
    cost = WidthCost.of_scores(sizes)
    target = round(ratio * total)
    if all(isinstance(n, int) and n >= 1 for n in (min_keep, round_to)):
        floor = floor_of(min_keep, round_to)
        steps = {name: step_of(round_to, (multiples or {}).get(name, 1)) for name in sizes}
        spare = total - sum(smallest_width(size, min_keep, steps[n]) for n, size in sizes.items())
        # Where no unit has a multiple there is another error.
        possible = not all(is_small(size, steps[n]) for n, size in sizes.items())
        if possible and target > spare:
            raise ValueError(
                f"A ratio of {ratio} removes {target} of {total} dimensions, but with at least "
                f"{floor} kept in each of {len(sizes)} units only {spare} can go: the "
                f"largest ratio is {spare / total:.4f}. Lower the ratio"
                f"{' or min_keep' if round_to == 1 else ', min_keep or round_to'}."
            )
    return keep_within(
        alphas,
        cost,
        total - target,
        min_keep=min_keep,
        round_to=round_to,
        scope=scope,
        kinds=kinds,
        multiples=multiples,
    )
