"""The eight candidate operations of the DARTS space (Liu et al., ICLR 2019, section 3.1).

Each maps (N, C, H, W) to (N, C, H / stride, W / stride), sizes rounded up.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class ReLUConvBN(nn.Sequential):
    """ReLU, 1 x 1 convolution, batch norm: fits a cell's input to the cell's width."""

    def __init__(self, inputs: int, outputs: int, affine: bool) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs, affine=affine),
        )


def _separable(channels: int, kernel: int, stride: int, affine: bool) -> nn.Sequential:
    """Depthwise and pointwise convolution, twice; only the first strides."""
    return nn.Sequential(
        *_depthwise(channels, kernel, stride, 1, affine),
        *_depthwise(channels, kernel, 1, 1, affine),
    )


def _dilated(channels: int, kernel: int, stride: int, affine: bool) -> nn.Sequential:
    """Dilated depthwise and pointwise convolution, once."""
    return nn.Sequential(*_depthwise(channels, kernel, stride, 2, affine))


def _depthwise(
    channels: int, kernel: int, stride: int, dilation: int, affine: bool
) -> tuple[nn.Module, ...]:
    return (
        nn.ReLU(),
        nn.Conv2d(
            channels,
            channels,
            kernel,
            stride,
            padding=dilation * (kernel // 2),
            dilation=dilation,
            groups=channels,
            bias=False,
        ),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels, affine=affine),
    )


class FactorizedReduction(nn.Module):
    """Halves height and width without losing every other pixel (DARTS' skip at stride 2).

    ReLU, then half of the outputs from the even pixels and half from the odd ones, batch norm. Odd
    sizes are padded by a row and a column of zeros, so that both halves have the same size.
    """

    def __init__(self, inputs: int, outputs: int, affine: bool) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.even = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(inputs, outputs - outputs // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(outputs, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.halve(self.relu(x)))

    def halve(self, x: Tensor) -> Tensor:
        """The two convolutions alone."""
        height, width = x.shape[-2:]
        shifted = nn.functional.pad(x, (0, width % 2, 0, height % 2))[..., 1:, 1:]
        return torch.cat([self.even(x), self.odd(shifted)], dim=1)


class Zero(nn.Module):
    """No connection: zeros of the right shape."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x[..., :: self.stride, :: self.stride])


def _pool(pool: nn.Module, channels: int, affine: bool, normed: bool) -> nn.Module:
    return nn.Sequential(pool, nn.BatchNorm2d(channels, affine=affine)) if normed else pool


def _skip(channels: int, stride: int, affine: bool) -> nn.Module:
    return nn.Identity() if stride == 1 else FactorizedReduction(channels, channels, affine)


# In the order of alpha's columns. (channels, stride, affine, normed pools) -> module.
OPERATIONS: dict[str, Callable[[int, int, bool, bool], nn.Module]] = {
    "none": lambda c, s, affine, normed: Zero(s),
    "max_pool_3x3": lambda c, s, affine, normed: _pool(nn.MaxPool2d(3, s, 1), c, affine, normed),
    "avg_pool_3x3": lambda c, s, affine, normed: _pool(
        nn.AvgPool2d(3, s, 1, count_include_pad=False), c, affine, normed
    ),
    "skip_connect": lambda c, s, affine, normed: _skip(c, s, affine),
    "sep_conv_3x3": lambda c, s, affine, normed: _separable(c, 3, s, affine),
    "sep_conv_5x5": lambda c, s, affine, normed: _separable(c, 5, s, affine),
    "dil_conv_3x3": lambda c, s, affine, normed: _dilated(c, 3, s, affine),
    "dil_conv_5x5": lambda c, s, affine, normed: _dilated(c, 5, s, affine),
}


def build_operation(
    name: str, channels: int, stride: int, affine: bool = True, normed_pools: bool = False
) -> nn.Module:
    """Build an operation of the DARTS space.

    Args:
        name: a key of :data:`OPERATIONS`.
        channels: of input and output.
        stride: 1 or 2.
        affine: whether batch norms have weights; those of the search network have none.
        normed_pools: whether pools are followed by a batch norm, as in the search network.

    Raises:
        ValueError: unknown operation or stride.
    """
    if name not in OPERATIONS:
        raise ValueError(f"unknown operation {name!r}; the DARTS space has {list(OPERATIONS)}")
    if stride not in (1, 2):
        raise ValueError(f"{name}: stride must be 1 or 2, got {stride!r}")
    return OPERATIONS[name](channels, stride, affine, normed_pools)
