"""Penalties gamma * P(alpha) on the architecture parameters."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from rarts_mm.registry import PENALTIES


class Penalty(ABC):
    """gamma * P(alpha), added to the Lagrangian for alpha's sub-step only.

    Args:
        gamma: weight of the penalty, >= 0.
    """

    def __init__(self, gamma: float) -> None:
        if not (isinstance(gamma, int | float) and math.isfinite(gamma) and gamma >= 0):
            raise ValueError(
                f"{type(self).__name__}: gamma must be a finite number >= 0, got {gamma!r}; "
                "the seeds' width searches use 1e-4"
            )
        self.gamma = float(gamma)

    @abstractmethod
    def value(self, alphas: Sequence[Tensor]) -> Tensor:
        """gamma * P(alpha), a scalar."""

    @abstractmethod
    def add_gradient_(self, alphas: Sequence[Tensor]) -> None:
        """Add gamma * dP/dalpha to every ``alpha.grad`` (which must exist) in place."""


@PENALTIES.register_module()
class L1Penalty(Penalty):
    """gamma * sum |alpha_i|, with the subgradient sign(alpha) (0 at 0), as in Network Slimming.

    Under a subgradient step scores come near zero but do not become exactly zero.
    """

    def __init__(self, gamma: float = 1e-4) -> None:
        super().__init__(gamma)

    def value(self, alphas: Sequence[Tensor]) -> Tensor:
        return self.gamma * torch.stack(torch._foreach_norm(alphas, 1)).sum()

    def add_gradient_(self, alphas: Sequence[Tensor]) -> None:
        if self.gamma:
            gradients = [alpha.grad for alpha in alphas]
            torch._foreach_add_(gradients, torch._foreach_sign(alphas), alpha=self.gamma)
