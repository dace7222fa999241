"""The five candidate operations of the NATS-Bench topology space (Dong et al., TPAMI 2021).

Each maps (N, C, H, W) to a tensor of the same shape.
"""

from torch import Tensor, nn

# In the order of alpha's columns.
NATS_OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
KERNELS = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}


class Nothing(nn.Module):
    """No connection: zeros."""

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(()).expand_as(x)


def conv_unit(
    inputs: int, outputs: int, kernel: int, stride: int = 1, plain: bool = False
) -> nn.Sequential:
    """ReLU, convolution without bias, batch norm.

    Args:
        plain: whether the norm has neither weights nor running statistics, as in the search.
    """
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs, affine=not plain, track_running_stats=not plain),
    )


def build_nats_operation(name: str, channels: int, plain: bool = False) -> nn.Module:
    """Build an operation of the NATS-Bench topology space; ``plain`` as for :func:`conv_unit`.

    Raises:
        ValueError: unknown operation.
    """
    if name in KERNELS:
        return conv_unit(channels, channels, KERNELS[name], plain=plain)
    others = {
        "none": Nothing,
        "skip_connect": nn.Identity,
        "avg_pool_3x3": lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    }
    if name not in others:
        raise ValueError(
            f"unknown operation {name!r}; the NATS-Bench topology space has "
            f"{', '.join(NATS_OPERATIONS)}"
        )
    return others[name]()


class ReductionBlock(nn.Module):
    """The fixed residual block between two stages: halves height and width."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = conv_unit(inputs, outputs, 3, stride=2)
        self.second = conv_unit(outputs, outputs, 3)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, 2), nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / 2, W / 2).

        Raises:
            ValueError: H or W is odd.
        """
        height, width = x.shape[-2:]
        if height % 2 or width % 2:
            raise ValueError(
                f"a NATS-Bench network cannot halve {height} x {width}: the sides of its images must "
                "be divisible by 4; resize or pad them"
            )
        return self.shortcut(x) + self.second(self.first(x))
