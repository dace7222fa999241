"""The zero-one loss of Fair DARTS."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rarts_mm.registry import PENALTIES

from .base import SearchedNetwork
from .smooth import SmoothPenalty


@PENALTIES.register_module()
class ZeroOnePenalty(SmoothPenalty):
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
        entries = sum(a.numel() for a in alphas)
        return -self.gamma / entries * torch.stack(squares).sum()
