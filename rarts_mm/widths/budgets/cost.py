"""What a network of given widths costs."""

import math
from collections import defaultdict
from collections.abc import Mapping


class WidthCost:
    """A cost as a polynomial in the widths of units: counted once, known for all widths.

    The weight of a layer has a factor for the unit that its inputs belong to and one for the unit of
    its outputs, so that parameters and multiply-adds are sums of products of remaining shares,

        cost(k) = sum_t c_t prod_{unit in t} k_unit / size_unit.

    Args:
        sizes: Unit name -> its number of dimensions.
        terms: Units whose dimensions share a cost -> that cost at full width; the empty set holds what
            no unit changes.
        unit: What is counted, for messages: ``'parameters'``.
    """

    def __init__(
        self, sizes: Mapping[str, int], terms: Mapping[frozenset[str], float], unit: str
    ) -> None:
        self.sizes = dict(sizes)
        self.terms = {units: value for units, value in terms.items() if value}
        self.unit = unit
        self._of_unit: dict[str, list[tuple[float, tuple[str, ...]]]] = defaultdict(list)
        for units, value in self.terms.items():
            for name in units:
                self._of_unit[name].append((value, tuple(units - {name})))

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
        slope = sum(
            value * math.prod(widths[u] / self.sizes[u] for u in others)
            for value, others in self._of_unit[name]
        )
        return slope * more / self.sizes[name]

    def per_dimension(self) -> dict[str, float]:
        """Unit name -> what one of its dimensions costs where all others are there."""
        return {name: self.increase(self.sizes, name, 1) for name in self.sizes}
