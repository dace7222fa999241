"""The relaxed Lagrangian (thesis, eq. 2.11)

    L(u, w, alpha) = L_p(u, alpha) + lambda L_a(w, alpha) + beta/2 |u - w|^2 + gamma P(alpha)

and the gradients of the terms that are not a network's loss.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .penalty import Penalty


@dataclass(frozen=True)
class Lagrangian:
    """The weights of the Lagrangian's terms.

    Args:
        lam: lambda >= 0, weight of the auxiliary loss.
        beta: beta >= 0, weight of the coupling of the two networks' weights.
        penalties: the terms gamma * P(alpha).
    """

    lam: float = 1.0
    beta: float = 0.1
    penalties: tuple[Penalty, ...] = field(default=())

    def __post_init__(self) -> None:
        for name, symbol in (("lam", "lambda"), ("beta", "beta")):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
                raise ValueError(
                    f"{name} ({symbol} of the Lagrangian) must be a finite number >= 0, "
                    f"got {value!r}"
                )

    def coupling(self, u: Sequence[Tensor], w: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return (beta/2 |u - w|^2, |u - w|), two scalars."""
        with torch.no_grad():
            norms = torch._foreach_norm(torch._foreach_sub(list(u), list(w)))
            # Half precision would overflow in the sum; float64 stays what it is.
            norms = [norm.to(torch.promote_types(norm.dtype, torch.float32)) for norm in norms]
            distance = torch.linalg.vector_norm(torch.stack(norms))
        return 0.5 * self.beta * distance**2, distance

    def add_coupling_(self, mine: Sequence[Tensor], other: Sequence[Tensor]) -> None:
        """Add beta * (mine - other) to every ``mine.grad``, creating those that are missing.

        A weight that took no part in the loss still feels the pull of its twin.
        """
        if not self.beta:
            return
        with torch.no_grad():
            for p in mine:
                if p.grad is None:
                    p.grad = torch.zeros_like(p)
            gradients = [p.grad for p in mine]
            # Two in-place passes instead of one with a temporary of the network's size.
            torch._foreach_add_(gradients, list(mine), alpha=self.beta)
            torch._foreach_add_(gradients, list(other), alpha=-self.beta)

    def penalty(self, alphas: Sequence[Tensor]) -> Tensor | float:
        """gamma * P(alpha), summed over the penalties."""
        with torch.no_grad():
            return sum(penalty.value(alphas) for penalty in self.penalties)

    def add_penalty_gradient_(self, alphas: Sequence[Tensor]) -> None:
        """Add gamma * dP/dalpha to every ``alpha.grad``."""
        with torch.no_grad():
            for penalty in self.penalties:
                penalty.add_gradient_(alphas)
