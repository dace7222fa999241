"""Scores multiply the weight where that is smaller and alpha's gradient is not asked for."""

import pytest
import torch
from torch import nn

from rarts_mm.widths.layers.scored_channels import score_inputs
from rarts_mm.widths.layers.scored_linear import ScoredLinear

LAYERS = {
    "conv": (lambda: nn.Conv2d(6, 5, 3, stride=2, padding=1, dilation=1), (4, 6, 17, 13)),
    "conv, reflected": (
        lambda: nn.Conv2d(6, 5, 3, padding=1, padding_mode="reflect", bias=False),
        (4, 6, 17, 13),
    ),
    "transposed": (
        lambda: nn.ConvTranspose2d(6, 5, 3, stride=2, padding=1, output_padding=1),
        (4, 6, 9, 7),
    ),
    "linear": (lambda: nn.Linear(6, 5), (40, 6)),
    "linear behind a map": (lambda: nn.Linear(18, 5), (40, 18)),
    "scored outputs": (lambda: nn.Linear(6, 12), (40, 6)),
}


def scored(kind):
    torch.manual_seed(0)
    make, shape = LAYERS[kind]
    layer = make().double()
    alpha = nn.Parameter(torch.randn(6, dtype=torch.float64))
    if kind == "scored outputs":
        layer = ScoredLinear.wrap(layer, alpha, repeats=2)
    else:
        score_inputs(layer, alpha)
    return layer, alpha, torch.randn(shape, dtype=torch.float64)


@pytest.mark.parametrize("kind", LAYERS)
def test_both_ways_give_the_same_outputs_and_gradients(kind):
    layer, alpha, x = scored(kind)
    x.requires_grad_()
    wanted = layer(x)
    upstream = torch.randn_like(wanted)
    names = dict(layer.named_parameters())
    assert "alpha" not in names
    gradients = torch.autograd.grad(wanted, [x, *names.values()], upstream)
    alpha.requires_grad_(False)
    elements = wanted.numel() if kind == "scored outputs" else x.numel()
    assert (layer.folds if kind == "scored outputs" else layer.folds_scores)(elements)
    found = layer(x)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    for g, h in zip(
        gradients, torch.autograd.grad(found, [x, *names.values()], upstream), strict=True
    ):
        torch.testing.assert_close(g, h, rtol=1e-12, atol=1e-12)
    alpha.requires_grad_(True)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), wanted, rtol=1e-12, atol=1e-12)


def test_a_small_input_is_multiplied_itself():
    layer, alpha, x = scored("conv")
    alpha.requires_grad_(False)
    assert layer.folds_scores(x.numel())
    small = x[:1, :, :3, :3]
    assert not layer.folds_scores(small.numel())
    # And alpha's gradient is never asked for in vain.
    alpha.requires_grad_(True)
    assert not layer.folds_scores(x.numel())
