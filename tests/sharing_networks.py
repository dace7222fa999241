"""Backbones of three residual blocks that share layers, or read each other's, in several ways."""

import torch.nn.functional as F
from mmdet.models.backbones.resnet import BasicBlock
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import nn

# What is left out in each, and a piece of the reason; other blocks are scored.
LEFT_OUT = {
    "layer": (("first", "second"), "its conv2 is used as backbone."),
    "weight": (("first", "second"), "its conv1.weight is tied to backbone."),
    "norm": (("first", "second"), "its bn1.bias is tied to backbone."),
    "call": (("first",), "its conv2 is used outside of it, by SharingBackbone"),
    "weights": (("first",), "its conv1 is used outside of it, by SharingBackbone"),
    "block": ((), ""),
}


@MODELS.register_module()
class SharingBackbone(BaseModule):
    """``kind`` is one of :data:`LEFT_OUT`."""

    def __init__(self, kind: str, channels: int = 8) -> None:
        super().__init__()
        self.kind = kind
        self.stem = nn.Conv2d(3, channels, 3, stride=2, padding=1)
        for name in ("first", "second", "third"):
            setattr(self, name, BasicBlock(channels, channels))
        if kind == "layer":
            self.second.conv2 = self.first.conv2
        elif kind == "weight":
            self.second.conv1.weight = self.first.conv1.weight
        elif kind == "norm":
            self.second.bn1.bias = self.first.bn1.bias
        elif kind == "block":
            self.second = self.first

    def forward(self, images):
        x = self.stem(images)
        y = self.third(self.second(self.first(x)))
        if self.kind == "call":
            y = y + self.first.conv2(x)
        elif self.kind == "weights":
            y = y + F.conv2d(x, self.first.conv1.weight, padding=1)
        return (y,)


@MODELS.register_module()
class FarCalledChain(BaseModule):
    """Runs the layers of a ``Sequential`` two levels below it, which looks as if it ran as a whole."""

    class _Inner(BaseModule):
        def __init__(self) -> None:
            super().__init__()
            self.chain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))

        def forward(self, x):
            return self.chain(x)

    def __init__(self) -> None:
        super().__init__()
        self.inner = self._Inner()
        self.block = BasicBlock(8, 8)

    def forward(self, images):
        x = images
        for layer in self.inner.chain:
            x = layer(x)
        return (self.block(x),)
