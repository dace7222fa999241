"""Pre-activation residual networks for small images (He et al., ECCV 2016)."""

from mmengine.model import BaseModule
from torch import Tensor, nn

from rarts_mm.registry import MODELS

EXPANSION = 4


class Selecting(BaseModule):
    """A module that, once pruned, reads some of its input's channels: the shortcut beside it needs all.

    Attributes:
        selected: a buffer, (channels read,) indices of the input's channels; None: all.
    """

    def __init__(self, init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        self.register_buffer("selected", None)

    def select(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, channels read, H, W)."""
        return x if self.selected is None else x.index_select(1, self.selected)

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs) -> None:
        found = state_dict.get(f"{prefix}selected")
        if (found is None) != (self.selected is None) or (
            found is not None and found.shape != self.selected.shape
        ):
            has, wanted = (0 if s is None else len(s) for s in (found, self.selected))
            raise RuntimeError(
                f"{prefix}selected, the channels that a pruned layer reads, has {has} entries in the "
                f"checkpoint and {wanted} in the network (0: not pruned): they are from different "
                "prunings. Load it with the config that was written beside it; a search starts from a "
                "checkpoint that was not pruned"
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class PreActivationBottleneck(Selecting):
    """Batch norm, ReLU and convolution, three times, beside a shortcut.

    The shortcut carries the block's raw input. Where the shape changes, it is a 1 x 1 convolution.

    Args:
        in_channels: of the input.
        planes: width of the bottleneck; the output has ``4 * planes`` channels.
        stride: of the 3 x 3 convolution.
    """

    def __init__(self, in_channels: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = EXPANSION * planes
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, planes, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, out_channels, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, 4 planes, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.conv1(self.relu(self.bn1(self.select(x))))
        out = self.conv2(self.relu(self.bn2(out)))
        out = self.conv3(self.relu(self.bn3(out)))
        return out + shortcut


@MODELS.register_module()
class PreResNet(Selecting):
    """PreResNet of depth 9 n + 2 for images of 32 x 32, as a backbone of MMPretrain's classifiers.

    Depth 164 with 10 classes: 1,703,258 parameters and 247,646,720 multiply-adds (the thesis' section
    4.2 and Network Slimming prune it).

    Args:
        depth: 9 n + 2, n blocks in each of the three stages.
        base_channels: width of the first stage's bottlenecks; it doubles from stage to stage.
        in_channels: of the images.
        init_cfg: as in MMEngine; by default Kaiming for convolutions and 1 for norms.
    """

    def __init__(
        self,
        depth: int = 164,
        base_channels: int = 16,
        in_channels: int = 3,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        if isinstance(depth, bool) or not isinstance(depth, int) or depth < 11 or (depth - 2) % 9:
            raise ValueError(
                f"PreResNet: depth={depth!r} must be 9 n + 2 for a whole number n, such as 11, 20, 56 "
                "or 164"
            )
        super().__init__(
            init_cfg
            or [
                dict(type="Kaiming", layer=["Conv2d"]),
                dict(type="Constant", val=1, layer=["_BatchNorm"]),
            ]
        )
        self.conv1 = nn.Conv2d(in_channels, base_channels, 3, padding=1, bias=False)
        channels = base_channels
        for stage in range(3):
            planes = base_channels * 2**stage
            blocks = []
            for i in range((depth - 2) // 9):
                stride = 2 if stage and not i else 1
                blocks.append(PreActivationBottleneck(channels, planes, stride))
                channels = EXPANSION * planes
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.out_channels = channels

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """(N, in_channels, H, W) -> ((N, 16 base_channels, H / 4, W / 4),)."""
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return (self.relu(self.bn(self.select(x))),)
