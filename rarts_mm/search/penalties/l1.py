"""The L1 norm of alpha, by subgradient or by proximal step."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rarts_mm.registry import PENALTIES

from .base import Penalty
from .proximal import ProximalPenalty
from .smooth import SmoothPenalty


class _L1(Penalty):
    separable = True

    def __init__(self, gamma: float = 1e-4) -> None:
        super().__init__(gamma)

    def value(self, alphas: Sequence[Tensor]) -> Tensor:
        return self.gamma * torch.stack(torch._foreach_norm(alphas, 1)).sum()

    def residual_(
        self, gradients: Sequence[Tensor], alphas: Sequence[Tensor], factor: float
    ) -> None:
        threshold = self.gamma * factor
        for g, a in zip(gradients, alphas, strict=True):
            # At zero the subdifferential is an interval; its best element cancels what it can.
            at_zero = torch.nn.functional.softshrink(g, threshold)
            g.copy_(torch.where(a == 0, at_zero, g + threshold * a.sign()))


@PENALTIES.register_module()
class L1Penalty(_L1, SmoothPenalty):
    """gamma * sum |alpha_i|, with the subgradient sign(alpha) (0 at 0), as in Network Slimming.

    Under a subgradient step scores come near zero but do not become exactly zero.
    """

    def gradient(self, alphas: Sequence[Tensor]) -> Sequence[Tensor]:
        return torch._foreach_mul(torch._foreach_sign(alphas), self.gamma)

    def reach(self, rates: Sequence[tuple[float, float]], momentum: float | None) -> float:
        if momentum is None:
            # An adaptive optimiser moves by its learning rate, however small the gradient.
            return sum(lr for lr, _ in rates) if self.gamma else 0.0
        return self.gamma * sum(step for _, step in rates) / (1 - momentum)


@PENALTIES.register_module()
class ProximalL1(_L1, ProximalPenalty):
    """gamma * sum |alpha_i| by a proximal gradient step: exact zeros.

    After the optimiser's step on the losses alone, the soft threshold
    S_g(alpha) = sign(alpha) max(|alpha| - g, 0) with g = eta_alpha * gamma. (RVSM, thesis 2.1.2,
    applies the same operator to a copy of the weights with g = lambda / beta: another algorithm.)
    How far scores can shrink in a whole search is the sum of eta_alpha * gamma over its steps.
    """

    exact_zeros = True

    def proximal_(self, alphas: Sequence[Tensor], step: float) -> None:
        threshold = step * self.gamma
        if not threshold:
            return
        signs = torch._foreach_sign(alphas)
        torch._foreach_abs_(alphas)
        torch._foreach_sub_(alphas, threshold)
        torch._foreach_clamp_min_(alphas, 0.0)
        torch._foreach_mul_(alphas, signs)

    def reach(self, rates: Sequence[tuple[float, float]], momentum: float | None) -> float:
        del momentum
        return self.gamma * sum(step for _, step in rates)
