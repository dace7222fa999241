"""The most important dimensions that fit into a budget."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .cost import WidthCost
from .ordering import Ordering, order_dimensions

# Sums of floating point numbers may pass a budget that they meet.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class _Block:
    """Dimensions of a unit that come and go together: the ``count`` next most important ones."""

    unit: int
    count: int
    order: tuple[float, float]


def keep_within(
    importance: Mapping[str, Tensor],
    cost: WidthCost,
    budget: float,
    *,
    min_keep: int = 1,
    round_to: int = 1,
    scope: str = "global",
    kinds: Mapping[str, str] | None = None,
    multiples: Mapping[str, int] | None = None,
) -> dict[str, Tensor]:
    """Keep the most important dimensions whose cost stays within a budget.

    Starting from the floors, dimensions come back in the order of their importance; one that does not
    fit any more closes its unit, and the others go on filling the budget. So the result never exceeds
    the budget, and nothing that would still fit is left out.

    Args:
        importance: Unit name -> (size,) numbers, of which the largest stay.
        cost: What widths cost.
        budget: The largest cost allowed, in the cost's unit.
        min_keep: Dimensions that every unit keeps at least; smaller units stay whole.
        round_to: Widths are multiples of this number, or whole. Then ``round_to`` dimensions come back
            at a time, by their mean importance. Units that are smaller stay whole.
        scope, kinds: See :func:`~rarts_mm.widths.budgets.ordering.order_dimensions`.
        multiples: Unit name -> how wide a layer becomes with each of its dimensions, where that is not
            1: ``round_to`` is about the layer.

    Returns:
        Unit name -> (kept,) sorted int64 indices of the dimensions to keep, on the CPU.

    Raises:
        ValueError: A budget below the cost of the floors, a bad floor, a ``round_to`` larger than
            every unit, or what :func:`~rarts_mm.widths.budgets.ordering.order_dimensions` raises.
    """
    ordering = order_dimensions(importance, scope, kinds)
    blocks, floors = _blocks(ordering, min_keep, round_to, multiples or {})
    names = ordering.names
    widths = dict(zip(names, floors, strict=True))
    spent = cost(widths)
    if spent > budget * (1 + _ROUNDING):
        raise ValueError(
            f"{spent:,} {cost.unit} remain at least: {_floor_text(min_keep, round_to)} in each of "
            f"{len(names)} units, and what is not scored. The budget of {budget:,.0f} is below that. "
            f"Raise the budget{_lower(min_keep, round_to)}, or score more of the network "
            "(model.space.include)."
        )
    allowed = budget * (1 + _ROUNDING)
    closed = set()
    for block in blocks:
        if block.unit in closed:
            continue
        name = names[block.unit]
        increase = cost.increase(widths, name, block.count)
        if spent + increase > allowed:
            closed.add(block.unit)
            continue
        widths[name] += block.count
        spent += increase
    return _kept(importance, ordering, widths)


def keep_nonzero(
    importance: Mapping[str, Tensor], *, min_keep: int = 1, round_to: int = 1
) -> dict[str, Tensor]:
    """Remove the dimensions whose scores are exactly zero: the ratio that a search found itself.

    The "unfixed ratio" of the thesis' Table 4.2, behind a penalty that makes exact zeros.

    Args:
        importance: Unit name -> (size,) scores.
        min_keep: Dimensions that every unit keeps at least, also zeros.
        round_to: Widths are rounded up to multiples of this number, with zeros.

    Raises:
        ValueError: No score, or every one, is zero; or as for :func:`keep_within`.
    """
    ordering = order_dimensions(importance)
    _, floors = _blocks(ordering, min_keep, round_to, {})
    nonzero = [int((ordering.key[ordering.unit == i] > 0).sum()) for i in range(len(floors))]
    total = len(ordering.key)
    if sum(nonzero) == total:
        raise ValueError(
            f"None of the {total} scores is exactly zero, so there is nothing that a search has "
            "switched off. Search with a penalty that makes zeros (penalty=dict(type='ProximalL1') or "
            "'HardThreshold') and a larger gamma, or give a ratio or a budget."
        )
    if not any(nonzero):
        raise ValueError(
            f"All {total} scores are exactly zero: the penalty has switched everything off. Search with "
            "a smaller gamma."
        )
    widths = {}
    for name, size, count, floor in zip(
        ordering.names, ordering.sizes, nonzero, floors, strict=True
    ):
        widths[name] = min(int(size), max(floor, -(-count // round_to) * round_to))
    return _kept(importance, ordering, widths)


def step_of(round_to: int, multiple: int) -> int:
    """Dimensions that make a layer wider by a multiple of ``round_to``, each making it so by ``multiple``."""
    return round_to // math.gcd(round_to, multiple)


def floor_of(min_keep: int, round_to: int) -> int:
    """Dimensions that a large unit keeps at least: ``min_keep``, rounded up."""
    return -(-min_keep // round_to) * round_to


def is_small(size: int, step: int) -> bool:
    """Whether a unit has no multiple but itself."""
    return size < step


def smallest_width(size: int, min_keep: int, step: int) -> int:
    """Dimensions that a unit keeps at least."""
    return size if is_small(size, step) else min(size, floor_of(min_keep, step))


def _blocks(
    ordering: Ordering, min_keep: int, round_to: int, multiples: Mapping[str, int]
) -> tuple[list[_Block], list[int]]:
    """What can come back above the floors, the most important first; and the floors."""
    for name, value in (("min_keep", min_keep), ("round_to", round_to)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}.")
    steps = [step_of(round_to, multiples.get(name, 1)) for name in ordering.names]
    sizes = ordering.sizes.tolist()
    if all(is_small(size, step) for size, step in zip(sizes, steps, strict=True)):
        largest = max(
            size * multiples.get(n, 1) for n, size in zip(ordering.names, sizes, strict=True)
        )
        raise ValueError(
            f"round_to={round_to} is larger than every unit, so all would stay whole: the largest is "
            f"{largest} wide. Round to less."
        )
    blocks, floors = [], []
    for number, (size, step) in enumerate(zip(sizes, steps, strict=True)):
        floor = smallest_width(size, min_keep, step)
        floors.append(floor)
        ranked = ordering.of_unit(number)
        for start in range(floor, size, step):
            members = ranked[start : start + step]
            order = float(ordering.key[members].mean()), float(ordering.place[members].mean())
            blocks.append(_Block(number, len(members), order))
    blocks.sort(key=lambda block: block.order, reverse=True)
    return blocks, floors


def _kept(
    importance: Mapping[str, Tensor], ordering: Ordering, widths: Mapping[str, int]
) -> dict[str, Tensor]:
    kept = {}
    for number, name in enumerate(ordering.names):
        chosen = ordering.of_unit(number)[: widths[name]]
        kept[name] = torch.from_numpy(np.sort(ordering.index[chosen]))
    return {name: kept[name] for name in importance}


def _floor_text(min_keep: int, round_to: int) -> str:
    floor = floor_of(min_keep, round_to)
    return f"{floor} dimension{'s' if floor > 1 else ''}"


def _lower(min_keep: int, round_to: int) -> str:
    settings = [n for n, v in (("min_keep", min_keep), ("round_to", round_to)) if v > 1]
    return f", lower {' or '.join(settings)}" if settings else ""
