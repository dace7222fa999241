"""Channels inside a block: written by some layers, read by others, seen by nobody outside."""

import copy
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..layers.cutting import cut_channels, cut_inputs, cut_outputs, is_depthwise
from ..layers.scored_channels import ScoredChannels, input_scores, score_inputs
from ..layers.shared_scores import SharedScores
from ..layers.sliced_layers import SLICED, SlicedConv2d, SlicedConvTranspose2d
from ..layers.sliced_linear import SlicedLinear
from ..unit import Unit
from .base import LayerAdapter, qualified_name, random_input, replace_submodule

# By name, as these computations are what slicing knows; subclasses may compute something else.
_PLAIN = frozenset(
    {
        "torch.nn.modules.conv.Conv2d",
        "torch.nn.modules.conv.ConvTranspose2d",
        "torch.nn.modules.linear.Linear",
        "mmcv.cnn.bricks.wrappers.Conv2d",
        "mmcv.cnn.bricks.wrappers.ConvTranspose2d",
        "mmcv.cnn.bricks.wrappers.Linear",
    }
)


@dataclass(frozen=True)
class Channels:
    """One group of channels in a host, by the paths of the layers that touch it.

    Attributes:
        writers: convolutions or linear layers whose outputs they are.
        between: what acts on each channel by itself on the way: batch norms, depthwise convolutions.
        activations: functions on the way, element by element.
        readers: layers whose inputs they are; a linear layer may read each channel at several places.
    """

    writers: tuple[str, ...]
    readers: tuple[str, ...]
    between: tuple[str, ...] = ()
    activations: tuple[str, ...] = ()


class ChannelAdapter(LayerAdapter):
    """Hosts with channels that nothing outside sees (thesis, section 4.2).

    The scores act where the channels enter their readers, behind batch norm and activation: a score of
    zero removes a channel exactly, whatever a batch norm or an activation makes of the rest.
    """

    @abstractmethod
    def channels(self, host: nn.Module) -> Channels:
        """The layers that touch the channels.

        Raises:
            LookupError: the host's layers are in no order that is known; the message says which.
        """

    def unsupported_reason(self, host: nn.Module) -> str | None:
        if reason := super().unsupported_reason(host):
            return reason
        try:
            group = self.channels(host)
        except LookupError as error:
            return str(error.args[0])
        for path in (*group.writers, *group.readers):
            if reason := not_plain(path, host.get_submodule(path)):
                return reason
        for path in group.between:
            layer = host.get_submodule(path)
            if not (isinstance(layer, _BatchNorm) or is_depthwise(layer)):
                return f"its {path} is a {qualified_name(type(layer))}, which mixes the channels"
            if (kind := next((k for k in SLICED if isinstance(layer, k)), None)) is None:
                return f"its {path} is a {qualified_name(type(layer))}, which cannot be cut"
            if (
                type(layer).forward is not kind.forward
                and qualified_name(type(layer)) not in _PLAIN
            ):
                return (
                    f"its {path} is a {qualified_name(type(layer))}, which computes more than a "
                    f"{kind.__name__}"
                )
        size = outputs_of(host.get_submodule(group.writers[0]))
        for path in group.activations:
            if mixes_channels(host.get_submodule(path), size):
                return f"its {path} does not act on each channel by itself"
        for path in group.readers:
            inputs = inputs_of(host.get_submodule(path))
            if inputs % size:
                return f"{size} channels do not fit the {inputs} inputs of its {path}"
        return None

    def unit(self, name: str, host: nn.Module) -> Unit:
        group = self.channels(host)
        writers, between, readers = (
            [host.get_submodule(path) for path in paths]
            for paths in (group.writers, group.between, group.readers)
        )
        size = outputs_of(writers[0])
        layers = [*writers, *between]
        # Bias of a reader and counters of a norm stay.
        parameters = sum(p.numel() // size for layer in layers for p in layer.parameters())
        operations = sum(w.weight.numel() // size for w in layers if not isinstance(w, _BatchNorm))
        read = sum(reader.weight.numel() // size for reader in readers)
        return Unit(
            name=name,
            kind="channel",
            size=size,
            parameters_per_score=parameters + read,
            operations_per_score=operations + read,
        )

    def layers(self, host: nn.Module) -> tuple[str, ...]:
        group = self.channels(host)
        return (*group.writers, *group.between, *group.readers)

    def insert(self, host: nn.Module, alpha: Tensor) -> None:
        for path in self.channels(host).readers:
            score_inputs(host.get_submodule(path), alpha)

    def alpha(self, host: nn.Module) -> Tensor | None:
        reader = host.get_submodule(self.channels(host).readers[0])
        return input_scores(reader)

    def bind(self, host: nn.Module, alpha: Tensor) -> None:
        for path in self.channels(host).readers:
            score_inputs(host.get_submodule(path), alpha)

    def weight(self, host: nn.Module) -> Tensor:
        writer = host.get_submodule(self.channels(host).writers[0])
        weight = writer.weight
        if isinstance(writer, nn.ConvTranspose2d):
            weight = weight.transpose(0, 1)
        return weight.flatten(1)

    def scaled_weight(self, host: nn.Module) -> Tensor:
        group = self.channels(host)
        size = outputs_of(host.get_submodule(group.writers[0]))
        readers = [host.get_submodule(path) for path in group.readers]
        # Behind a batch norm, the scale of what writes a channel means nothing.
        return torch.cat([_columns(reader, size) for reader in readers], dim=1)

    def norm(self, host: nn.Module) -> str | None:
        group = self.channels(host)
        norms = [p for p in group.between if isinstance(host.get_submodule(p), _BatchNorm)]
        return norms[-1] if norms and len(group.writers) == 1 else None

    def slice(self, host: nn.Module, kept: Tensor, alpha: Tensor | None) -> nn.Module:
        group = self.channels(host)
        size = outputs_of(host.get_submodule(group.writers[0]))
        kept = kept.to(host.get_submodule(group.writers[0]).weight.device)
        scale = None if alpha is None else alpha.detach()[kept]
        for path in group.writers:
            replace_submodule(host, path, cut_outputs(host.get_submodule(path), kept))
        for path in group.between:
            replace_submodule(host, path, cut_channels(host.get_submodule(path), kept))
        for path in group.readers:
            reader = host.get_submodule(path)
            places = inputs_of(reader) // size
            columns = (kept[:, None] * places + torch.arange(places, device=kept.device)).flatten()
            factors = None if scale is None else scale.repeat_interleave(places)
            replace_submodule(host, path, cut_inputs(reader, columns, factors))
        return host


def mixes_channels(module: nn.Module, size: int) -> bool:
    """Whether removing channels before ``module`` changes the others behind it.

    Checked by its values in float64, in evaluation mode, on (2, size, 3, 3) random numbers.
    """
    function = copy.deepcopy(module).to("cpu", torch.float64).eval()
    generator = torch.Generator().manual_seed(0)
    x = 3 * torch.randn(2, size, 3, 3, dtype=torch.float64, generator=generator)
    kept = torch.arange(size) % 2 == 0
    with torch.no_grad():
        try:
            # The clones are for activations that work in place.
            alone = function(x[:, kept].clone())
        except RuntimeError:
            # Parameters per channel, as PReLU may have them, do not fit half of the channels.
            return True
        together = function(x.clone())
    return together.shape != x.shape or not torch.equal(alone, together[:, kept])


def inputs_of(layer: nn.Module) -> int:
    """Input channels of a convolution, or inputs of a linear layer."""
    return layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels


def outputs_of(layer: nn.Module) -> int:
    """Output channels of a convolution, or outputs of a linear layer."""
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def _columns(reader: nn.Module, size: int) -> Tensor:
    """What a layer reads each of ``size`` channels with, (size, any)."""
    weight = reader.weight
    if not isinstance(reader, nn.ConvTranspose2d):
        weight = weight.transpose(0, 1)
    # A linear layer behind a flattened map reads a channel at several places, one after the other.
    return weight.reshape(size, -1)


_OURS: tuple[type, ...] = (
    SharedScores,
    ScoredChannels,
    SlicedConv2d,
    SlicedConvTranspose2d,
    SlicedLinear,
)


def not_plain(path: str, layer: nn.Module) -> str | None:
    """Why a writer or reader is more than a convolution or a linear layer, or None."""
    name = qualified_name(type(layer))
    if name not in _PLAIN and not isinstance(layer, _OURS):
        return f"its {path} is a {name}, not a plain convolution or linear layer"
    if getattr(layer, "groups", 1) != 1:
        return f"its {path} has {layer.groups} groups, which removed channels would unbalance"
    if set(layer._parameters) != {"weight", "bias"} or layer.weight is None:
        return f"its {path} computes its weight from other parameters"
    if layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer):
        return f"its {path} has hooks, which a replaced layer would lose"
    return None


def conv_module(host: nn.Module, path: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """The convolution, the norm and the activation of mmcv's ``ConvModule`` at ``path``.

    Raises:
        LookupError: its parts do not run in this order.
    """
    module = host.get_submodule(path)
    if getattr(module, "order", None) != ("conv", "norm", "act") or getattr(
        module, "efficient_conv_bn_eval_forward", None
    ):
        raise LookupError(f"its {path} is not convolution, norm and activation in this order")
    norms = (f"{path}.{module.norm_name}",) if module.with_norm else ()
    acts = (f"{path}.activate",) if module.with_activation else ()
    return f"{path}.conv", norms, acts


class BetweenConvolutions(ChannelAdapter):
    """Channels between two convolutions of a residual block, behind norm and ReLU.

    Attributes:
        writer, reader: names of the layers in the host.
        norm_name: name of the attribute that has the norm's name.
    """

    writer: ClassVar[str]
    norm_name: ClassVar[str]
    reader: ClassVar[str]

    def norm_path(self, host: nn.Module) -> str:
        """Name of the norm in the host."""
        return getattr(host, self.norm_name)

    def example(self, host: nn.Module) -> tuple:
        return (random_input(2, host.conv1.in_channels, 9, 13),)

    def channels(self, host: nn.Module) -> Channels:
        return Channels((self.writer,), (self.reader,), (self.norm_path(host),), ("relu",))
