"""The blocks of PreResNet, as Network Slimming counts them (thesis, section 4.2)."""

from typing import ClassVar

from torch import Tensor, nn

from rarts_mm.registry import ADAPTERS

from ..cutting import cut_channels, cut_inputs
from ..scored_inputs import ScoredInputs, score_inputs
from ..unit import Unit
from .base import WidthAdapter, qualified_name, replace_submodule
from .channels import ChannelAdapter, Channels

_HOSTS = ("rarts_mm.models.preresnet.PreActivationBottleneck",)


@ADAPTERS.register_module()
class PreActivationSelectionAdapter(WidthAdapter):
    """One score per channel that the block's first convolution reads, behind its first batch norm.

    The shortcut stays as wide as it is: slicing selects the channels in front of the batch norm.
    """

    hosts = _HOSTS
    part = "bn1"

    def unit(self, name: str, host: nn.Module) -> Unit:
        norm = sum(p.numel() for p in host.bn1.parameters()) // host.bn1.num_features
        return Unit(
            name=name,
            kind="selection",
            size=host.conv1.in_channels,
            heads=1,
            embed_dims=host.conv1.in_channels,
            host=qualified_name(type(host)),
            parameters_per_score=host.conv1.out_channels + norm,
            operations_per_score=host.conv1.out_channels,
        )

    def insert(self, host: nn.Module, alpha: Tensor) -> None:
        score_inputs(host.conv1, alpha)

    def alpha(self, host: nn.Module) -> Tensor | None:
        return host.conv1.alpha if isinstance(host.conv1, ScoredInputs) else None

    def bind(self, host: nn.Module, alpha: Tensor) -> None:
        host.conv1.bind(alpha)

    def weight(self, host: nn.Module) -> Tensor:
        # Nobody inside the block writes these channels; what reads them stands for them.
        return host.conv1.weight.transpose(0, 1).flatten(1)

    def slice(self, host: nn.Module, kept: Tensor, alpha: Tensor | None) -> nn.Module:
        kept = kept.to(host.conv1.weight.device)
        scale = None if alpha is None else alpha.detach()[kept]
        replace_submodule(host, "bn1", cut_channels(host.bn1, kept))
        replace_submodule(host, "conv1", cut_inputs(host.conv1, kept, scale))
        # A block that was pruned before reads a selection already.
        host.selected = kept.clone() if host.selected is None else host.selected[kept]
        return host


class _Inner(ChannelAdapter):
    hosts = _HOSTS
    writer: ClassVar[str]
    norm: ClassVar[str]
    reader: ClassVar[str]

    def channels(self, host: nn.Module) -> Channels:
        return Channels((self.writer,), (self.reader,), (self.norm,), ("relu",))


@ADAPTERS.register_module()
class PreActivationFirstAdapter(_Inner):
    """One score per channel between the first and the second convolution, behind bn2."""

    part = "conv1"
    writer, norm, reader = "conv1", "bn2", "conv2"


@ADAPTERS.register_module()
class PreActivationSecondAdapter(_Inner):
    """One score per channel between the second and the third convolution, behind bn3."""

    part = "conv2"
    writer, norm, reader = "conv2", "bn3", "conv3"
