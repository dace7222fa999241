"""Channels inside a block: written by some layers, read by others, seen by nobody outside."""

import copy
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..cutting import cut_channels, cut_inputs, cut_outputs, is_depthwise
from ..scored_inputs import ScoredInputs, score_inputs
from ..sliced_layers import SLICED, SlicedConv2d, SlicedConvTranspose2d
from ..sliced_linear import SlicedLinear
from ..unit import Unit
from .base import WidthAdapter, qualified_name, replace_submodule

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


class ChannelAdapter(WidthAdapter):
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

    def refusal(self, host: nn.Module) -> str | None:
        if reason := super().refusal(host):
            return reason
        try:
            group = self.channels(host)
        except LookupError as error:
            return str(error.args[0])
        for path in (*group.writers, *group.readers):
            if reason := _not_plain(path, host.get_submodule(path)):
                return reason
        for path in group.between:
            layer = host.get_submodule(path)
            if not (isinstance(layer, _BatchNorm) or is_depthwise(layer)):
                return f"its {path} is a {qualified_name(type(layer))}, which mixes the channels"
            if not any(isinstance(layer, kind) for kind in SLICED):
                return f"its {path} is a {qualified_name(type(layer))}, which cannot be cut"
        size = _outputs(host.get_submodule(group.writers[0]))
        for path in group.activations:
            if mixes_channels(host.get_submodule(path), size):
                return f"its {path} does not act on each channel by itself"
        for path in group.readers:
            inputs = _inputs(host.get_submodule(path))
            if inputs % size:
                return f"{size} channels do not fit the {inputs} inputs of its {path}"
        return None

    def unit(self, name: str, host: nn.Module) -> Unit:
        group = self.channels(host)
        writers, between, readers = (
            [host.get_submodule(path) for path in paths]
            for paths in (group.writers, group.between, group.readers)
        )
        size = _outputs(writers[0])
        layers = [*writers, *between]
        # Bias of a reader and counters of a norm stay.
        parameters = sum(p.numel() // size for layer in layers for p in layer.parameters())
        operations = sum(w.weight.numel() // size for w in layers if not isinstance(w, _BatchNorm))
        read = sum(reader.weight.numel() // size for reader in readers)
        return Unit(
            name=name,
            kind="channel",
            size=size,
            heads=1,
            embed_dims=_inputs(writers[0]),
            host=qualified_name(type(host)),
            parameters_per_score=parameters + read,
            operations_per_score=operations + read,
        )

    def insert(self, host: nn.Module, alpha: Tensor) -> None:
        for path in self.channels(host).readers:
            score_inputs(host.get_submodule(path), alpha)

    def alpha(self, host: nn.Module) -> Tensor | None:
        reader = host.get_submodule(self.channels(host).readers[0])
        return reader.alpha if isinstance(reader, ScoredInputs) else None

    def bind(self, host: nn.Module, alpha: Tensor) -> None:
        for path in self.channels(host).readers:
            host.get_submodule(path).bind(alpha)

    def weight(self, host: nn.Module) -> Tensor:
        writer = host.get_submodule(self.channels(host).writers[0])
        weight = writer.weight
        if isinstance(writer, nn.ConvTranspose2d):
            weight = weight.transpose(0, 1)
        return weight.flatten(1)

    def slice(self, host: nn.Module, kept: Tensor, alpha: Tensor | None) -> nn.Module:
        group = self.channels(host)
        size = _outputs(host.get_submodule(group.writers[0]))
        kept = kept.to(host.get_submodule(group.writers[0]).weight.device)
        scale = None if alpha is None else alpha.detach()[kept]
        for path in group.writers:
            replace_submodule(host, path, cut_outputs(host.get_submodule(path), kept))
        for path in group.between:
            replace_submodule(host, path, cut_channels(host.get_submodule(path), kept))
        for path in group.readers:
            reader = host.get_submodule(path)
            places = _inputs(reader) // size
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


def _inputs(layer: nn.Module) -> int:
    return layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels


def _outputs(layer: nn.Module) -> int:
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


_OURS: tuple[type, ...] = (ScoredInputs, SlicedConv2d, SlicedConvTranspose2d, SlicedLinear)


def _not_plain(path: str, layer: nn.Module) -> str | None:
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
    if module.order != ("conv", "norm", "act") or getattr(
        module, "efficient_conv_bn_eval_forward", None
    ):
        raise LookupError(f"its {path} is not convolution, norm and activation in this order")
    norms = (f"{path}.{module.norm_name}",) if module.with_norm else ()
    acts = (f"{path}.activate",) if module.with_activation else ()
    return f"{path}.conv", norms, acts


class BetweenConvolutions(ChannelAdapter):
    """Channels between two convolutions of a residual block, behind norm and ReLU.

    Attributes:
        writer, norm, reader: names of the layers in the host; the norm's is an attribute with its name.
    """

    writer: ClassVar[str]
    norm: ClassVar[str]
    reader: ClassVar[str]

    def channels(self, host: nn.Module) -> Channels:
        norm = getattr(host, self.norm)
        return Channels((self.writer,), (self.reader,), (norm,), ("relu",))
