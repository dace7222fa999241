"""Norms that have lost channels: values and gradients of the library's norm with zeros in their place."""

import pytest
import torch
from torch import nn

from rarts_mm.widths.layers.sliced_norms import sliced_norm


def uneven(norm: nn.Module) -> nn.Module:
    with torch.no_grad():
        norm.weight.copy_(torch.randn(norm.weight.shape))
        norm.bias.copy_(torch.randn(norm.bias.shape))
    return norm.double()


CASES = {
    "layer": (lambda: nn.LayerNorm(12), (3, 5, 12), -1),
    "group": (lambda: nn.GroupNorm(3, 12), (3, 12, 5, 7), 1),
    "one group": (lambda: nn.GroupNorm(1, 12), (3, 12, 5), 1),
}


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("kind", CASES)
def test_values_and_gradients_are_those_of_zeros(kind, scaled):
    torch.manual_seed(0)
    build, shape, dim = CASES[kind]
    norm = uneven(build())
    # Another number in each group.
    left = torch.tensor([0, 4, 5, 7, 8, 9, 10])
    x = torch.zeros(shape, dtype=torch.float64)
    x.index_copy_(dim, left, torch.randn(*shape, dtype=torch.float64).index_select(dim, left))
    small = x.index_select(dim, left).requires_grad_()
    scale = torch.randn(len(left), dtype=torch.float64) if scaled else torch.ones(len(left))
    along = [1] * len(shape)
    along[dim] = -1
    x = x.index_copy(dim, left, x.index_select(dim, left) * scale.view(along)).requires_grad_()

    wanted = norm(x).index_select(dim, left)
    direction = torch.randn(wanted.shape, dtype=torch.float64)
    (wanted * direction).sum().backward()
    gradients = norm.weight.grad[left], norm.bias.grad[left], x.grad.index_select(dim, left)

    cut = build().double()
    cut.weight = nn.Parameter(norm.weight.detach()[left])
    cut.bias = nn.Parameter(norm.bias.detach()[left])
    cut = sliced_norm(cut, left, 12, scaled)
    if scaled:
        cut.input_scale.copy_(scale)
    with torch.no_grad():
        at_rest = cut(small)
    torch.testing.assert_close(at_rest, wanted, rtol=1e-12, atol=1e-12)
    found = cut(small)
    (found * direction).sum().backward()

    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    input_gradient = gradients[2] * scale.view(along)
    for mine, theirs in zip(
        (cut.weight.grad, cut.bias.grad, small.grad), (*gradients[:2], input_gradient), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-12)


def test_cut_again_it_counts_the_original_channels():
    torch.manual_seed(0)
    norm = uneven(nn.GroupNorm(2, 8))
    x = torch.randn(2, 8, 5, dtype=torch.float64)
    first, second = torch.tensor([0, 2, 3, 4, 6]), torch.tensor([1, 2, 4])
    left = first[second]
    zeros = torch.zeros_like(x).index_copy(1, left, x[:, left])
    wanted = norm(zeros)[:, left]
    for chosen, size in ((first, 8), (second, 5)):
        weight, bias = norm.weight[chosen], norm.bias[chosen]
        norm.weight, norm.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
        norm = sliced_norm(norm, chosen, size)
    torch.testing.assert_close(norm(x[:, left]), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(3, 12), (3, 12, 5)])
def test_a_group_norm_without_a_bias_or_without_positions(shape):
    torch.manual_seed(0)
    norm = uneven(nn.GroupNorm(3, 12))
    norm.bias = None
    left = torch.tensor([0, 4, 5, 7, 8, 9, 10])
    x = torch.randn(*shape, dtype=torch.float64)
    zeros = torch.zeros_like(x).index_copy(1, left, x[:, left])
    wanted = norm(zeros)[:, left].detach()
    norm.weight = nn.Parameter(norm.weight.detach()[left])
    cut = sliced_norm(norm, left, 12)
    with torch.no_grad():
        torch.testing.assert_close(cut(x[:, left]), wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(cut(x[:, left]), wanted, rtol=1e-12, atol=1e-12)
