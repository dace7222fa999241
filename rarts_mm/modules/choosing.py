"""Which channels stay: one rule for all that is asked for."""

from collections.abc import Mapping

from torch import Tensor

from rarts_mm.widths import rank_scores
from rarts_mm.widths.budgets import WidthCost, keep_within
from rarts_mm.widths.flow import Groups


def asked_for(**given: float | None) -> tuple[str, float]:
    """The one of ``ratio``, ``params`` and ``flops`` that is given, and its value.

    Raises:
        ValueError: none, or several.
    """
    there = {name: value for name, value in given.items() if value is not None}
    if len(there) != 1:
        raise ValueError(
            f"Give one of ratio (0.4 removes 40 % of the channels), params and flops (what may remain), "
            f"got {', '.join(there) or 'none'}."
        )
    ((name, value),) = there.items()
    return name, value


def choose(
    found: Groups,
    importance: Mapping[str, Tensor],
    costs: Mapping[str, WidthCost],
    asked: tuple[str, float],
    round_to: int = 1,
    min_keep: int = 1,
    scope: str = "global",
) -> dict[str, Tensor]:
    """The channels that stay, of every group.

    Args:
        importance: group -> (size,) numbers, of which the lowest go first.
        costs: what widths cost, by ``'params'`` and ``'flops'``.
        asked: what :func:`asked_for` says.

    Raises:
        ValueError: an amount that makes no sense, or cannot be had.
    """
    what, amount = asked
    settings = dict(
        min_keep=min_keep,
        round_to=round_to,
        scope=scope,
        kinds=dict.fromkeys(importance, "channel"),
        multiples={name: group.multiple for name, group in found.groups.items()},
    )
    if what == "ratio":
        return rank_scores(importance, amount, **settings)
    cost = costs[what]
    if isinstance(amount, bool) or not isinstance(amount, int | float) or not amount > 0:
        raise ValueError(f"{what}={amount!r} must be a share in (0, 1), or a number above 1.")
    budget = amount * cost.whole if amount < 1 else amount
    if budget >= cost.whole:
        raise ValueError(f"{what}={amount!r} is no less than there is: {cost.whole:,}.")
    return keep_within(importance, cost, budget, **settings)
