"""The residual blocks of ResNet, of MMDetection and of MMPretrain."""

from torch import nn

from rarts_mm.registry import ADAPTERS

from .channels import BetweenConvolutions

_BASIC = (
    "mmdet.models.backbones.resnet.BasicBlock",
    "mmpretrain.models.backbones.resnet.BasicBlock",
)
_BOTTLENECK = (
    "mmdet.models.backbones.resnet.Bottleneck",
    "mmpretrain.models.backbones.resnet.Bottleneck",
)


class _Bottleneck(BetweenConvolutions):
    hosts = _BOTTLENECK

    def unsupported_reason(self, host: nn.Module) -> str | None:
        if getattr(host, "with_plugins", False):
            return "it has plugins, which may mix the channels"
        return super().unsupported_reason(host)


@ADAPTERS.register_module()
class BasicBlockAdapter(BetweenConvolutions):
    """One score per channel between the two convolutions of a basic block."""

    hosts = _BASIC
    part = "conv1"
    writer, norm_name, reader = "conv1", "norm1_name", "conv2"


@ADAPTERS.register_module()
class BottleneckFirstAdapter(_Bottleneck):
    """One score per channel between the first and the second convolution of a bottleneck."""

    part = "conv1"
    writer, norm_name, reader = "conv1", "norm1_name", "conv2"


@ADAPTERS.register_module()
class BottleneckSecondAdapter(_Bottleneck):
    """One score per channel between the second and the third convolution of a bottleneck."""

    part = "conv2"
    writer, norm_name, reader = "conv2", "norm2_name", "conv3"
