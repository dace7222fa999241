"""PreResNet, as Network Slimming counts its channels (thesis, section 4.2).

A unit is named after the batch norm behind which its scores stand.
"""

from typing import ClassVar

from torch import Tensor, nn

from rarts_mm.registry import ADAPTERS

from ..layers.cutting import cut_channels, cut_inputs
from ..layers.scored_channels import input_scores, score_inputs
from ..unit import SELECTION, Unit
from .base import LayerAdapter, known_class, overridden, replace_submodule
from .channels import BetweenConvolutions, inputs_of, not_plain

_BLOCK = ("rarts_mm.models.preresnet.PreActivationBottleneck",)
_BACKBONE = ("rarts_mm.models.preresnet.PreResNet",)

# They pool each channel by itself, so that a score behind them acts as one in front of them.
_POOLINGS = ("mmpretrain.models.necks.gap.GlobalAveragePooling",)
# Heads whose linear layer ``fc`` reads the pooled channels.
_HEADS = (
    "mmpretrain.models.heads.linear_head.LinearClsHead",
    "mmpretrain.models.heads.multi_label_linear_head.MultiLabelLinearClsHead",
)


class _Selection(LayerAdapter):
    """One score per channel that the reader takes of a map which others read as well.

    The map stays as wide as it is: slicing selects the channels in front of the batch norm, in the
    module ``selecting`` (a :class:`~rarts_mm.models.preresnet.Selecting`).

    Attributes:
        selecting, norm_path, reader: paths in the host.
    """

    selecting: ClassVar[str]
    norm_path: ClassVar[str]
    reader: ClassVar[str]

    def unsupported_reason(self, host: nn.Module) -> str | None:
        return super().unsupported_reason(host) or not_plain(
            self.reader, host.get_submodule(self.reader)
        )

    def layers(self, host: nn.Module) -> tuple[str, ...]:
        return (self.norm_path, self.reader)

    def unit(self, name: str, host: nn.Module) -> Unit:
        norm, reader = (host.get_submodule(path) for path in (self.norm_path, self.reader))
        size = inputs_of(reader)
        read = reader.weight.numel() // size
        return Unit(
            name=name,
            kind=SELECTION,
            size=size,
            parameters_per_score=read + sum(p.numel() for p in norm.parameters()) // size,
            operations_per_score=read,
        )

    def insert(self, host: nn.Module, alpha: Tensor) -> None:
        score_inputs(host.get_submodule(self.reader), alpha)

    def alpha(self, host: nn.Module) -> Tensor | None:
        reader = host.get_submodule(self.reader)
        return input_scores(reader)

    def bind(self, host: nn.Module, alpha: Tensor) -> None:
        score_inputs(host.get_submodule(self.reader), alpha)

    def norm(self, host: nn.Module) -> str:
        return self.norm_path

    def weight(self, host: nn.Module) -> Tensor:
        # Nobody inside the host writes these channels alone; what reads them stands for them.
        return host.get_submodule(self.reader).weight.transpose(0, 1).flatten(1)

    def slice(self, host: nn.Module, kept: Tensor, alpha: Tensor | None) -> nn.Module:
        norm, reader = (host.get_submodule(path) for path in (self.norm_path, self.reader))
        kept = kept.to(reader.weight.device)
        scale = None if alpha is None else alpha.detach()[kept]
        replace_submodule(host, self.norm_path, cut_channels(norm, kept))
        replace_submodule(host, self.reader, cut_inputs(reader, kept, scale))
        selecting = host.get_submodule(self.selecting)
        # What was pruned before reads a selection already.
        old = selecting.selected
        selecting.selected = kept.clone() if old is None else old[kept]
        return host


@ADAPTERS.register_module()
class PreActivationSelectionAdapter(_Selection):
    """One score per channel that a block's first convolution reads, behind its first batch norm."""

    hosts = _BLOCK
    part = "bn1"
    selecting, norm_path, reader = "", "bn1", "conv1"


@ADAPTERS.register_module()
class PreActivationFirstAdapter(BetweenConvolutions):
    """One score per channel between the first and the second convolution of a block."""

    hosts = _BLOCK
    part = "bn2"
    writer, norm_name, reader = "conv1", "bn2", "conv2"

    def norm_path(self, host: nn.Module) -> str:
        return self.norm_name


@ADAPTERS.register_module()
class PreActivationSecondAdapter(PreActivationFirstAdapter):
    """One score per channel between the second and the third convolution of a block."""

    part = "bn3"
    writer, norm_name, reader = "conv2", "bn3", "conv3"


@ADAPTERS.register_module()
class PreResNetLastAdapter(_Selection):
    """One score per channel that the classifier reads, behind the backbone's last batch norm.

    Its host is the whole classifier: the scores stand at the inputs of the head's linear layer, behind
    the pooling, which is linear in each channel. Alone or before another head the backbone has no
    such unit.
    """

    hosts = ("mmpretrain.models.classifiers.image.ImageClassifier",)
    methods = ("forward", "extract_feat", "loss", "predict")
    spanning = True
    part = "backbone.bn"
    selecting, norm_path, reader = "backbone", "backbone.bn", "head.fc"

    def claims(self, module: nn.Module) -> bool:
        return super().claims(module) and known_class(module.backbone, _BACKBONE) is not None

    def unsupported_reason(self, host: nn.Module) -> str | None:
        if reason := overridden(host.backbone, known_class(host.backbone, _BACKBONE)):
            return f"its backbone: {reason}"
        for name, part, known, methods in (
            ("neck", host.neck, _POOLINGS, ("forward",)),
            ("head", host.head, _HEADS, ("forward", "pre_logits", "loss", "predict")),
        ):
            found = known_class(part, known)
            if found is None or overridden(part, found, methods):
                kinds = " or ".join(path.rpartition(".")[2] for path in known)
                return (
                    f"its {name} is a {type(part).__name__}; which channels that reads is known of "
                    f"{kinds}"
                )
        if host.head.fc.in_features != host.backbone.bn.num_features:
            return "its head does not read the backbone's channels one by one"
        return super().unsupported_reason(host)

    def slice(self, host: nn.Module, kept: Tensor, alpha: Tensor | None) -> nn.Module:
        host = super().slice(host, kept, alpha)
        host.backbone.out_channels = host.head.in_channels = len(kept)
        return host
