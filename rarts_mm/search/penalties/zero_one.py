"""The zero-one loss of Fair DARTS."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rarts_mm.registry import PENALTIES

from .base import Penalty, SearchedNetwork


@PENALTIES.register_module()
class ZeroOnePenalty(Penalty):
    """gamma * L_0-1 = -gamma / N * sum (sigmoid(alpha_i) - 1/2)^2 (Fair DARTS, Chu et al., ECCV 2020).

    Drives the weights of a sigmoid relaxation, each on its own, to 0 or 1. N counts all entries of
    alpha together. The value lies between -gamma / 4 and 0, where all weights are undecided.

    Args:
        gamma: weight of the loss; its authors use 10.
    """

    def __init__(self, gamma: float = 10.0) -> None:
        super().__init__(gamma)

    def check(self, searched: SearchedNetwork) -> None:
        probe = torch.linspace(-2, 2, 5)[None]
        if not torch.allclose(searched.weights(probe), probe.sigmoid()):
            raise ValueError(
                "ZeroOnePenalty drives sigmoid(alpha) to 0 or 1, but the weights of this search's "
                "operations are something else; give the space relaxation=dict(type='Sigmoid')"
            )

    def value(self, alphas: Sequence[Tensor]) -> Tensor:
        squares = [(a.sigmoid() - 0.5).square().sum() for a in alphas]
        return -self.gamma / _entries(alphas) * torch.stack(squares).sum()

    def add_gradient_(self, alphas: Sequence[Tensor], factor: float = 1.0) -> None:
        if self.gamma * factor:
            self._add_to([alpha.grad for alpha in alphas], alphas, factor)

    def residual_(
        self, gradients: Sequence[Tensor], alphas: Sequence[Tensor], factor: float
    ) -> None:
        self._add_to(gradients, alphas, factor)

    def _add_to(self, targets: Sequence[Tensor], alphas: Sequence[Tensor], factor: float) -> None:
        """d/dalpha_i = -2 gamma / N (s_i - 1/2) s_i (1 - s_i) with s = sigmoid(alpha)."""
        scale = -2 * self.gamma * factor / _entries(alphas)
        for target, alpha in zip(targets, alphas, strict=True):
            s = alpha.detach().sigmoid()
            target.add_((s - 0.5) * s * (1 - s), alpha=scale)


def _entries(alphas: Sequence[Tensor]) -> int:
    return sum(alpha.numel() for alpha in alphas)
