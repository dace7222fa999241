"""What a network of given widths costs."""

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping


class WidthCost:
    """A cost as a polynomial in the widths of units: counted once, known for all widths.

    The weight of a layer has a factor for the unit that its inputs belong to and one for the unit of
    its outputs, so that parameters and multiply-adds are sums of products of remaining shares,

        cost(k) = sum_t c_t prod_{unit in t} k_unit / size_unit.

    A layer that reads and writes dimensions of one unit has it twice.

    Args:
        sizes: Unit name -> its number of dimensions.
        terms: Units whose dimensions share a cost (a set, or a tuple in which a unit may stand twice) ->
            that cost at full width; an empty one holds what no unit changes.
        unit: What is counted, for messages: ``'parameters'``.
    """

    def __init__(
        self, sizes: Mapping[str, int], terms: Mapping[Collection[str], float], unit: str
    ) -> None:
        self.sizes = dict(sizes)
        self.terms: dict[tuple[str, ...], float] = defaultdict(float)
        for units, value in terms.items():
            if value:
                self.terms[tuple(sorted(units))] += value
        self.unit = unit
        # The value, the unit's power, and the others.
        self._of_unit: dict[str, list[tuple[float, int, tuple[str, ...]]]] = defaultdict(list)
        for units, value in self.terms.items():
            for name, power in Counter(units).items():
                others = tuple(other for other in units if other != name)
                self._of_unit[name].append((value, power, others))

    @classmethod
    def of_scores(cls, sizes: Mapping[str, int]) -> "WidthCost":
        """Each dimension costs one."""
        return cls(sizes, {frozenset([name]): size for name, size in sizes.items()}, "scores")

    def __call__(self, widths: Mapping[str, int]) -> int:
        """The cost at these widths; units that are not named have all their dimensions."""
        share = {name: widths.get(name, size) / size for name, size in self.sizes.items()}
        return round(
            sum(value * math.prod(share[u] for u in units) for units, value in self.terms.items())
        )

    @property
    def whole(self) -> int:
        """The cost at full width."""
        return self({})

    def increase(self, widths: Mapping[str, int], name: str, more: int) -> float:
        """What ``more`` dimensions of a unit add to the cost at these widths (of all units)."""
        size, width = self.sizes[name], widths[name]
        return sum(
            value
            * ((width + more) ** power - width**power)
            / size**power
            * math.prod(widths[u] / self.sizes[u] for u in others)
            for value, power, others in self._of_unit[name]
        )

    def per_dimension(self) -> dict[str, float]:
        """Unit name -> what goes with the first of its dimensions that goes."""
        whole = self.sizes
        return {n: self.increase({**whole, n: whole[n] - 1}, n, 1) for n in self.sizes}
