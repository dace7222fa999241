"""What stands before the first cell: the images' way to its two inputs."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn


def _conv_bn(inputs: int, outputs: int, stride: int) -> tuple[nn.Module, nn.Module]:
    """3 x 3 convolution without bias, batch norm."""
    return (
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
    )


class CifarStem(nn.Module):
    """Convolution to 3 C channels and batch norm; both inputs of the first cell are its output."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_conv_bn(inputs, 3 * channels, 1))
        self.out_channels = (3 * channels, 3 * channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, inputs, H, W) -> twice (N, 3 C, H, W)."""
        x = self.layers(x)
        return x, x


class ImageNetStem(nn.Module):
    """Two convolutions that halve, then a third: the first cell's inputs at 1/4 and at 1/8.

    The second input is smaller than the first, as if a reduction stood between them.
    """

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.quarter = nn.Sequential(
            *_conv_bn(inputs, channels // 2, 2), nn.ReLU(), *_conv_bn(channels // 2, channels, 2)
        )
        self.eighth = nn.Sequential(nn.ReLU(), *_conv_bn(channels, channels, 2))
        self.out_channels = (channels, channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, inputs, H, W) -> (N, C, H / 4, W / 4) and (N, C, H / 8, W / 8)."""
        x = self.quarter(x)
        return x, self.eighth(x)


class Stem(NamedTuple):
    """What a kind of stem means for the rest of the network.

    Attributes:
        build: (channels of the images, C) -> module.
        halvings: how often the stem halves height and width.
        tower_stride: stride of the auxiliary tower's pooling, for maps of about 7 or 8 pixels a side.
        tower_norm: whether the auxiliary tower ends with a batch norm.
    """

    build: Callable[[int, int], nn.Module]
    halvings: int
    tower_stride: int
    tower_norm: bool


STEMS: dict[str, Stem] = {
    "cifar": Stem(CifarStem, halvings=0, tower_stride=3, tower_norm=True),
    # The authors' ImageNet tower has no second batch norm.
    "imagenet": Stem(ImageNetStem, halvings=3, tower_stride=2, tower_norm=False),
}
