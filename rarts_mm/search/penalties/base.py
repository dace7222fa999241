"""What all penalties have in common."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from ..state import Stateful


@dataclass(frozen=True)
class SearchedNetwork:
    """What a penalty may ask about the network whose operations alpha weighs.

    Attributes:
        network: its forward pass takes (N, channels, H, W).
        weights: alpha -> deterministic weights of the operations, of the same shape, differentiable.
        identity: (height, width) of its input -> what tells this network from others, ready for JSON.
    """

    network: nn.Module
    weights: Callable[[Tensor], Tensor]
    identity: Callable[[tuple[int, int]], dict[str, Any]]


class Penalty(Stateful, ABC):
    """gamma * P(alpha), added to the Lagrangian for alpha's sub-step only.

    Derive from :class:`~rarts_mm.search.SmoothPenalty`, whose gradient is added to alpha's before the
    optimiser's step, or from :class:`~rarts_mm.search.ProximalPenalty`, whose proximal map is applied
    after it. A penalty that is neither would do nothing, and is refused.

    Values, gradients and residuals are computed whenever something is logged. A penalty that remembers
    something from step to step changes it in ``add_gradient_`` or ``proximal_``, of which a step of alpha
    calls one, once for each weight (see ``separable``), and defines ``state_dict``.

    Args:
        gamma: weight of the penalty, >= 0. During a search it is multiplied by ``gamma_factor`` of
            alpha's optimiser, 1 unless a scheduler moves it.

    Attributes:
        exact_zeros: whether the penalty makes entries of alpha exactly zero.
        separable: whether P is the sum of its values on parts of the list of alphas. Only then may
            groups of alpha's optimiser differ in their ``gamma_factor`` (or, for a proximal map, in
            their step): methods then see the alphas of one weight at a time.
    """

    exact_zeros: ClassVar[bool] = False
    separable: ClassVar[bool] = False

    def __init__(self, gamma: float) -> None:
        number = isinstance(gamma, int | float) and not isinstance(gamma, bool)
        if not (number and math.isfinite(gamma) and gamma >= 0):
            raise ValueError(
                f"{type(self).__name__}: gamma must be a finite number >= 0, got {gamma!r}; "
                "the thesis' width searches use 1e-4"
            )
        self.gamma = float(gamma)

    def bind(self, alphas: Mapping[str, Tensor]) -> None:
        """See alpha, by name, once before the search; raise ``ValueError`` if it does not fit."""
        del alphas

    def check(self, searched: SearchedNetwork) -> None:
        """See the network of a topology search, once before the search and after :meth:`bind`; raise
        ``ValueError`` if the penalty was not made for it."""
        del searched

    @abstractmethod
    def value(self, alphas: Sequence[Tensor]) -> Tensor:
        """gamma * P(alpha), a scalar; the alphas come in the order of :meth:`bind`."""

    @abstractmethod
    def residual_(
        self, gradients: Sequence[Tensor], alphas: Sequence[Tensor], factor: float
    ) -> None:
        """Turn gradients of the losses into the smallest element of the Lagrangian's
        subdifferential in place: the left side of the equilibrium equation (thesis, eq. 2.19)."""

    def reach(self, rates: Sequence[tuple[float, float]], momentum: float | None) -> float | None:
        """By how much the penalty alone can shrink an entry of alpha in these steps, or None.

        Args:
            rates: of each step, alpha's learning rate, and the same times ``gamma_factor``.
            momentum: of SGD, or None for an adaptive optimiser.
        """
        del rates, momentum
