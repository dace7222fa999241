"""The MLP of ConvNeXt's blocks, of MMPretrain."""

from torch import nn

from rarts_mm.registry import ADAPTERS

from .channels import ChannelAdapter, Channels


@ADAPTERS.register_module()
class ConvNeXtAdapter(ChannelAdapter):
    """One score per hidden channel, where it enters the second pointwise convolution."""

    hosts = ("mmpretrain.models.backbones.convnext.ConvNeXtBlock",)
    part = "pointwise_conv1"

    def unsupported_reason(self, host: nn.Module) -> str | None:
        if host.grn is not None:
            return "its response normalisation (ConvNeXt V2) mixes the channels"
        return super().unsupported_reason(host)

    def channels(self, host: nn.Module) -> Channels:
        return Channels(("pointwise_conv1",), ("pointwise_conv2",), (), ("act",))
