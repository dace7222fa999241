"""Branches that are run in training alone are cut with the maps that they read."""

import pytest
import torch
from torch import nn

import rarts_mm
from rarts_mm.widths.flow.uneven import make_uneven


class WithBranch(nn.Module):
    """A classifier with an auxiliary head, as Inception has one."""

    def __init__(self, labels: bool = False, noise: bool = False) -> None:
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 10, 3)
        self.norm, self.drop = nn.BatchNorm2d(10), nn.Dropout(0.5)
        self.last, self.extra = (
            nn.Linear(10, 4),
            nn.Sequential(nn.Conv2d(8, 6, 1), nn.Conv2d(6, 2, 1)),
        )
        self.labels, self.noise = labels, noise
        make_uneven(self)

    def forward(self, x, y=None):
        x = self.stem(x).relu()
        out = self.last(self.drop(self.norm(self.body(x))).relu().mean((2, 3)))
        if not self.training:
            return out
        extra = self.extra(x)
        if self.labels:
            extra = extra * y
        if self.noise:
            extra = extra + torch.rand_like(extra)
        return out, extra


def test_they_are_cut_and_compared():
    network = WithBranch()
    state = {k: v.clone() for k, v in network.state_dict().items()}
    x = torch.randn(2, 3, 9, 8)
    smaller = rarts_mm.prune(network, x, 0.5, scope="layer")
    assert smaller.groups.not_run == ()
    assert "extra.0" in smaller.groups.groups
    assert smaller.model.extra[0].weight.shape == (3, 4, 1, 1)
    assert smaller.error < 1e-12
    # Multiply-adds of evaluation: 7 x 6 and 5 x 4 positions, two images.
    assert smaller.flops[0] == 2 * (8 * 27 * 42 + 10 * 72 * 20 + 40)
    smaller.model.train()
    out, extra = smaller.model(x)
    assert (out.shape, extra.shape) == ((2, 4), (2, 2, 7, 6))
    # The modes are those of before, and nothing has moved.
    assert network.training
    assert network.norm.training
    assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())


@pytest.mark.parametrize("settings", [dict(labels=True), dict(noise=True)])
def test_what_cannot_be_compared_is_said(settings):
    smaller = rarts_mm.prune(WithBranch(**settings), torch.randn(2, 3, 9, 8), 0.5)
    assert "4 parameters were not run by the example (extra.0.weight" in str(smaller)
