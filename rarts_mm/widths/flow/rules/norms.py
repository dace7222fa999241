"""Norms. Over positions each channel is by itself; over channels a norm needs a layer that remembers how
many there were (:mod:`rarts_mm.widths.layers.sliced_norms`)."""

import torch
from torch import Tensor

from ..tracing import Call, Rule

AFFINE = "a norm multiplies it with parameters of fixed width"


def batch_norm(call: Call) -> None:
    """Each channel by itself."""
    args = call.args
    source = args["input"]
    channels, rest = call.vector(source, 1)
    call.freeze(rest, "a batch norm's statistics are over its positions")
    channels = _with_parameters(
        call,
        channels,
        source.shape[1],
        [args.get(name) for name in ("weight", "bias", "running_mean", "running_var")],
    )
    _label(call, channels, 1)


def layer_norm(call: Call) -> None:
    """Over the last dimensions; over the last one alone it can be cut."""
    args = call.args
    source, shape = args["input"], args["normalized_shape"]
    last = source.dim() - 1
    if len(shape) > 1:
        first = source.dim() - len(shape)
        for name in ("weight", "bias"):
            if args[name] is not None:
                call.freeze(call.layers(args[name]), "a norm over several dimensions")
        layers = call.layers(source)
        over = tuple(x for x in layers if any(x.shape[d] > 1 for d in range(first, last + 1)))
        call.freeze(over, "a norm over several dimensions")
        call.label(call.outputs[0], tuple(x for x in layers if all(x is not y for y in over)))
        return
    channels, rest = call.vector(source, last)
    channels = _with_parameters(call, channels, shape[0], [args["weight"], args["bias"]])
    _norm_of_channels(call, channels)
    _label(call, channels, last, rest)


def group_norm(call: Call) -> None:
    """Over the positions and the channels of each group."""
    args = call.args
    source = args["input"]
    channels, rest = call.vector(source, 1)
    call.freeze(rest, "a group norm's statistics are over its positions")
    channels = _with_parameters(call, channels, source.shape[1], [args["weight"], args["bias"]])
    _norm_of_channels(call, channels)
    _label(call, channels, 1)


def _norm_of_channels(call: Call, channels: Tensor | None) -> None:
    """Remember the norm's module; without one that can be replaced its channels stay."""
    if channels is not None:
        call.norm(channels)


def _with_parameters(
    call: Call, channels: Tensor | None, size: int, parameters: list[Tensor | None]
) -> Tensor | None:
    """Unite a map's channels with the parameters of a norm."""
    for parameter in parameters:
        if parameter is None:
            continue
        own, _ = call.vector(parameter, 0)
        if own is None and parameter.numel() == 1:
            continue
        if channels is None:
            channels = torch.zeros(size, dtype=torch.long)
        call.unite(channels, torch.zeros_like(channels) if own is None else own, AFFINE)
    return channels


def _label(call: Call, channels: Tensor | None, dim: int, rest: tuple[Tensor, ...] = ()) -> None:
    out = call.outputs[0]
    layers = list(rest)
    if channels is not None:
        shape = [1] * out.dim()
        shape[dim] = len(channels)
        layers.append(channels.view(shape))
    call.label(out, tuple(layers))


RULES: dict[str, Rule] = {
    **dict.fromkeys(
        (
            *("native_batch_norm", "_native_batch_norm_legit", "cudnn_batch_norm", "batch_norm"),
            *("_native_batch_norm_legit_no_training", "_batch_norm_with_update"),
            *("_batch_norm_no_update", "miopen_batch_norm"),
        ),
        batch_norm,
    ),
    **dict.fromkeys(("native_layer_norm", "layer_norm"), layer_norm),
    **dict.fromkeys(("native_group_norm", "group_norm"), group_norm),
}
READING = dict.fromkeys(
    ("native_layer_norm", "layer_norm", "native_group_norm", "group_norm"), ("input",)
)
