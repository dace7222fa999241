"""The operations of the DARTS space against constructions by hand, from the same weights."""

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from rarts_mm.cells import OPERATIONS, build_operation

C = 6


def randomised(module: nn.Module) -> nn.Module:
    """Random weights, and running statistics; float64."""
    module = module.double()
    with torch.no_grad():
        for value in itertools.chain(module.parameters(), module.buffers()):
            if value.is_floating_point():
                value.normal_()
        for norm in module.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.running_var.uniform_(0.5, 2)
    return module


def normed(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """Batch norm by its formula."""
    mean, variance = norm.running_mean, norm.running_var
    if norm.training:
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
    x = (x - mean[:, None, None]) / (variance + norm.eps).sqrt()[:, None, None]
    if norm.affine:
        x = x * norm.weight[:, None, None] + norm.bias[:, None, None]
    return x


def windows(x: Tensor, stride: int, padding: float) -> Tensor:
    """(N, C, H, W) -> (N, C, 9, ceil(H / stride), ceil(W / stride)): the 3 x 3 windows of a pooling."""
    height, width = (-(-side // stride) for side in x.shape[-2:])
    padded = functional.pad(x, (1, 2, 1, 2), value=padding)
    return torch.stack(
        [
            padded[:, :, i : i + stride * height : stride, j : j + stride * width : stride]
            for i in range(3)
            for j in range(3)
        ],
        dim=2,
    )


def by_hand(name: str, x: Tensor, stride: int, module: nn.Module) -> Tensor:
    """What the operation is to compute; only weights are taken from ``module``, in their order."""
    convolutions = [m.weight for m in module.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    if name == "none":
        return x.new_zeros(len(x), C, *(-(-side // stride) for side in x.shape[-2:]))
    if name.endswith("pool_3x3"):
        if name == "max_pool_3x3":
            out = windows(x, stride, -torch.inf).amax(2)
        else:
            inside = windows(torch.ones_like(x), stride, 0)
            out = windows(x, stride, 0).sum(2) / inside.sum(2)
        return normed(out, norms[0]) if norms else out
    if name == "skip_connect":
        if stride == 1:
            return x
        x = x.relu()
        even = x[:, :, ::2, ::2]
        # The pixels between them; what lies outside of an odd size is zero.
        odd = functional.pad(x, (0, 1, 0, 1))[:, :, 1::2, 1::2]
        parts = [
            torch.einsum(
                "nchw,oc->nohw", part[..., : even.shape[2], : even.shape[3]], w[:, :, 0, 0]
            )
            for part, w in zip((even, odd), convolutions, strict=True)
        ]
        return normed(torch.cat(parts, 1), norms[0])
    kernel = int(name[-1])
    dilation = 2 if name.startswith("dil") else 1
    strides = [stride] if dilation == 2 else [stride, 1]
    assert len(convolutions) == 2 * len(strides)
    for i, step in enumerate(strides):
        depthwise, pointwise = convolutions[2 * i : 2 * i + 2]
        assert depthwise.shape == (C, 1, kernel, kernel)
        assert pointwise.shape == (C, C, 1, 1)
        x = functional.conv2d(
            x.relu(), depthwise, None, step, dilation * (kernel - 1) // 2, dilation, groups=C
        )
        x = normed(torch.einsum("nchw,oc->nohw", x, pointwise[:, :, 0, 0]), norms[i])
    return x


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("stride", [1, 2])
def test_operations_are_what_they_are_by_hand(name, stride):
    torch.manual_seed(0)
    settings = itertools.product([(8, 8), (7, 9), (6, 5)], [False, True], [False, True])
    for size, affine, training in settings:
        # In the network that is searched pools have a norm and no norm has weights.
        module = build_operation(name, C, stride, affine=affine, normed_pools=not affine)
        module = randomised(module).train(training)
        x = torch.randn(3, C, *size, dtype=torch.float64)
        torch.testing.assert_close(
            module(x.clone()), by_hand(name, x, stride, module), rtol=1e-12, atol=1e-12
        )
        norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
        assert all(norm.affine == affine for norm in norms)
        assert affine or "pool" not in name or len(norms) == 1
        assert not affine or "pool" not in name or not norms


def test_operations_leave_their_input_alone():
    """Other operations read the same map, and the ReLUs in front do not work in place."""
    torch.manual_seed(0)
    for name, stride in itertools.product(OPERATIONS, (1, 2)):
        x = torch.randn(2, C, 6, 6)
        given = x.clone()
        build_operation(name, C, stride)(given)
        assert torch.equal(given, x), (name, stride)
