"""Keeping some outputs and inputs of a layer: what slicing does to each kind of it."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .sliced_layers import SLICED


def cut_outputs(layer: nn.Module, rows: Tensor) -> nn.Module:
    """The layer with the outputs ``rows`` alone: linear, convolution or transposed convolution."""
    dim = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    return _rebuilt(
        layer,
        lambda weight: weight.index_select(dim, rows),
        lambda bias: bias[rows],
        outputs=len(rows),
    )


def cut_inputs(layer: nn.Module, columns: Tensor, scale: Tensor | None = None) -> nn.Module:
    """The layer with the inputs ``columns`` alone, multiplied by ``scale``, (columns,), before."""
    dim = 0 if isinstance(layer, nn.ConvTranspose2d) else 1

    def fold(weight: Tensor) -> Tensor:
        weight = weight.index_select(dim, columns)
        if scale is None:
            return weight
        shape = [1] * weight.ndim
        shape[dim] = -1
        return weight * scale.to(weight).view(shape)

    return _rebuilt(layer, fold, lambda bias: bias, inputs=len(columns))


def cut_channels(layer: nn.Module, kept: Tensor) -> nn.Module:
    """A layer that treats every channel by itself, with the channels ``kept`` alone: a depthwise
    convolution or a batch norm."""
    if isinstance(layer, nn.Conv2d):
        return _rebuilt(
            layer,
            lambda weight: weight[kept],
            lambda bias: bias[kept],
            outputs=len(kept),
            inputs=len(kept),
            groups=len(kept),
        )
    return _cut_norm(layer, kept)


def is_depthwise(layer: nn.Module) -> bool:
    """Whether a layer is a convolution with one filter for each channel."""
    return (
        isinstance(layer, nn.Conv2d)
        and layer.groups == layer.in_channels == layer.out_channels
        and layer.groups > 1
    )


def _rebuilt(
    layer: nn.Module,
    weight: Callable[[Tensor], Tensor],
    bias: Callable[[Tensor], Tensor],
    outputs: int | None = None,
    inputs: int | None = None,
    groups: int | None = None,
) -> nn.Module:
    """A layer of the same settings with other weights and Parameters of its own."""
    kind = next(k for k in SLICED if isinstance(layer, k))
    if kind is nn.Linear:
        names, settings = ("in_features", "out_features"), {}
    else:
        names = ("in_channels", "out_channels")
        keys = ["kernel_size", "stride", "padding", "dilation", "padding_mode"]
        if kind is nn.ConvTranspose2d:
            keys.append("output_padding")
        settings = {key: getattr(layer, key) for key in keys}
        settings["groups"] = layer.groups if groups is None else groups
    old_inputs, old_outputs = (getattr(layer, name) for name in names)
    with torch.no_grad():
        # On the meta device nothing is allocated and no random number drawn.
        new = SLICED[kind](
            old_inputs if inputs is None else inputs,
            old_outputs if outputs is None else outputs,
            bias=layer.bias is not None,
            device="meta",
            **settings,
        )
        new.weight = _parameter(weight(layer.weight), layer.weight)
        if layer.bias is not None:
            new.bias = _parameter(bias(layer.bias), layer.bias)
    new.outputs_cut = outputs is not None or getattr(layer, "outputs_cut", False)
    new.train(layer.training)
    return new


def _cut_norm(norm: nn.Module, kept: Tensor) -> nn.Module:
    kind = next(k for k in SLICED if isinstance(norm, k))
    with torch.no_grad():
        new = SLICED[kind](
            len(kept),
            eps=norm.eps,
            momentum=norm.momentum,
            affine=norm.affine,
            track_running_stats=norm.track_running_stats,
            device="meta",
        )
        for name, parameter in norm._parameters.items():
            if parameter is not None:
                setattr(new, name, _parameter(parameter[kept], parameter))
        for name, buffer in norm._buffers.items():
            if buffer is not None:
                setattr(new, name, (buffer[kept] if buffer.ndim else buffer).clone())
    new.train(norm.training)
    return new


def _parameter(value: Tensor, like: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(value.clone().contiguous(), requires_grad=like.requires_grad)
