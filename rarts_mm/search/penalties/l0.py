"""The number of non-zero entries of alpha."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rarts_mm.registry import PENALTIES

from .proximal import ProximalPenalty


@PENALTIES.register_module()
class HardThreshold(ProximalPenalty):
    """gamma * |alpha|_0 by a proximal gradient step: exact zeros, and no shrinking of the others.

    After the optimiser's step, the hard threshold H_g(alpha) = alpha * 1[|alpha| > sqrt(2 g)] with
    g = eta_alpha * gamma (thesis, 2.1.2, gives the operator).
    """

    exact_zeros = True

    def __init__(self, gamma: float = 1e-4) -> None:
        super().__init__(gamma)

    def value(self, alphas: Sequence[Tensor]) -> Tensor:
        return self.gamma * torch.stack(torch._foreach_norm(alphas, 0)).sum()

    def proximal_(self, alphas: Sequence[Tensor], step: float) -> None:
        threshold = (2 * step * self.gamma) ** 0.5
        if not threshold:
            return
        for alpha in alphas:
            alpha.masked_fill_(alpha.abs() <= threshold, 0.0)

    def residual_(
        self, gradients: Sequence[Tensor], alphas: Sequence[Tensor], factor: float
    ) -> None:
        del factor
        # A zero is a local minimum whatever the gradient: leaving it costs gamma at once.
        for g, a in zip(gradients, alphas, strict=True):
            g.masked_fill_(a == 0, 0.0)
