"""The inverted residuals of MobileNetV2, of MMDetection and of MMPretrain."""

from torch import nn

from rarts_mm.registry import ADAPTERS

from .channels import ChannelAdapter, Channels, conv_module


class _InvertedResidual(ChannelAdapter):
    """One score per hidden channel, where it enters the projection.

    It slices the expansion, its norm, the depthwise convolution, its norm and the projection.
    """

    def parts(self, host: nn.Module) -> tuple[str, ...]:
        """Paths of the expansion, the depthwise convolution and the projection."""
        raise LookupError(type(host).__name__)

    def unsupported_reason(self, host: nn.Module) -> str | None:
        if getattr(host, "with_se", False):
            return "its squeeze-and-excitation mixes the channels"
        if len(self.parts(host)) < 3:
            return "it has no expansion: its hidden channels come from outside"
        return super().unsupported_reason(host)

    def channels(self, host: nn.Module) -> Channels:
        *before, last = (conv_module(host, path) for path in self.parts(host))
        writer, *depthwise = (conv for conv, _, _ in before)
        norms = tuple(path for _, names, _ in before for path in names)
        return Channels(
            (writer,),
            (last[0],),
            (*depthwise, *norms),
            tuple(path for _, _, names in before for path in names),
        )


@ADAPTERS.register_module()
class MobileNetV2Adapter(_InvertedResidual):
    """MMPretrain's MobileNetV2."""

    hosts = ("mmpretrain.models.backbones.mobilenet_v2.InvertedResidual",)

    def parts(self, host: nn.Module) -> tuple[str, ...]:
        return tuple(f"conv.{i}" for i in range(len(host.conv)))


@ADAPTERS.register_module()
class InvertedResidualAdapter(_InvertedResidual):
    """MMDetection's MobileNetV2, and MMPretrain's MobileNetV3 where it has no excitation."""

    hosts = (
        "mmdet.models.layers.inverted_residual.InvertedResidual",
        "mmpretrain.models.utils.inverted_residual.InvertedResidual",
    )

    def parts(self, host: nn.Module) -> tuple[str, ...]:
        expansion = ("expand_conv",) if host.with_expand_conv else ()
        return (*expansion, "depthwise_conv", "linear_conv")
