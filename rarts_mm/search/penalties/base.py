"""What all penalties have in common."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn


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


class Penalty(ABC):
    """gamma * P(alpha), added to the Lagrangian for alpha's sub-step only.

    A penalty acts in one of two ways: its gradient is added to alpha's before the optimiser's step
    (:meth:`add_gradient_`), or a proximal map is applied after it (:meth:`proximal_`).

    Args:
        gamma: weight of the penalty, >= 0. During a search it is multiplied by ``gamma_factor`` of
            alpha's optimiser, 1 unless a scheduler moves it.

    Attributes:
        exact_zeros: whether the penalty makes entries of alpha exactly zero.
    """

    exact_zeros: ClassVar[bool] = False

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
        """gamma * P(alpha), a scalar."""

    def add_gradient_(self, alphas: Sequence[Tensor], factor: float = 1.0) -> None:
        """Add factor * gamma * dP/dalpha to every ``alpha.grad`` (which must exist) in place."""
        del alphas, factor

    def proximal_(self, alphas: Sequence[Tensor], step: float) -> None:
        """Apply the proximal map of step * gamma * P to alpha in place, after the optimiser's step.

        Args:
            alphas: those of one group of alpha's optimiser.
            step: the group's learning rate times its ``gamma_factor``.
        """
        del alphas, step

    def residual_(
        self, gradients: Sequence[Tensor], alphas: Sequence[Tensor], factor: float
    ) -> None:
        """Turn gradients of the losses into the smallest element of the Lagrangian's
        subdifferential in place: the left side of the equilibrium equation (thesis, eq. 2.19)."""
        del gradients, alphas, factor

    def reach(self, rates: Sequence[tuple[float, float]], momentum: float | None) -> float | None:
        """By how much the penalty alone can shrink an entry of alpha in these steps, or None.

        Args:
            rates: of each step, alpha's learning rate, and the same times ``gamma_factor``.
            momentum: of SGD, or None for an adaptive optimiser.
        """
        del rates, momentum
