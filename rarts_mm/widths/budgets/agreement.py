"""How far rankings agree."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from .ordering import order_dimensions


@dataclass(frozen=True)
class Agreement:
    """Two rankings of the same dimensions compared.

    Attributes:
        rank_correlation: Spearman's, over all dimensions of all units, in [-1, 1].
        overlap: Share of the dimensions that both keep among those that either keeps, in [0, 1].
    """

    rank_correlation: float
    overlap: float


def agreement(
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    kept_first: Mapping[str, Tensor],
    kept_second: Mapping[str, Tensor],
) -> Agreement:
    """Compare two rankings and what they keep under the same budget.

    Args:
        first, second: Unit name -> (size,) importance, by two criteria.
        kept_first, kept_second: Unit name -> indices that each keeps.
    """
    # It takes a second to import.
    from scipy.stats import spearmanr

    one, other = order_dimensions(first), order_dimensions(second)
    correlation = spearmanr(one.key, other.key).statistic
    both = either = 0
    for name in first:
        a, b = set(kept_first[name].tolist()), set(kept_second[name].tolist())
        both += len(a & b)
        either += len(a | b)
    # Constant rankings have no correlation.
    return Agreement(0.0 if np.isnan(correlation) else float(correlation), both / either)
