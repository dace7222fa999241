"""Penalties that act by their proximal map."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from .base import Penalty

# Of the gradient mapping, which is exact as it goes to zero; far above float64's rounding.
_SHORT = 1e-6


class ProximalPenalty(Penalty):
    """A penalty whose proximal map is applied to alpha after the optimiser's step on the losses.

    To write one, define :meth:`~Penalty.value` and :meth:`proximal_`.
    """

    separable: ClassVar[bool] = True

    @abstractmethod
    def proximal_(self, alphas: Sequence[Tensor], step: float) -> None:
        """Put alpha in place where |x - alpha|^2 / 2 + step * gamma * P(x) is smallest.

        Args:
            alphas: those that share a step; all of them where the optimiser has one group.
            step: their learning rate times ``gamma_factor``, >= 0; at 0 nothing must change.
        """

    def residual_(
        self, gradients: Sequence[Tensor], alphas: Sequence[Tensor], factor: float
    ) -> None:
        """By the proximal map itself: the change in a very short proximal gradient step, per length."""
        before = [alpha.detach().double() for alpha in alphas]
        after = [a - _SHORT * g.double() for a, g in zip(before, gradients, strict=True)]
        self.proximal_(after, _SHORT * factor)
        for g, a, b in zip(gradients, before, after, strict=True):
            g.copy_((a - b) / _SHORT)
