"""Convolutions: a weight's outputs and inputs, in groups or not."""

import torch
from torch import Tensor

from ..labels import Layers, vector
from ..tracing import Call, Rule

INPUT = "a layer with fixed inputs reads it"
KERNEL = "it lies along the positions of a kernel"
COMPUTED = "it is read through a weight that is computed without it"


def convolution(call: Call) -> None:
    """Any number of dimensions, plain, grouped, depthwise, transposed."""
    args = call.args
    connect(
        call,
        args["input"],
        args["weight"],
        args["bias"],
        args.get("groups", 1),
        bool(args.get("transposed", False)),
    )


def connect(
    call: Call, source: Tensor, weight: Tensor, bias: Tensor | None, groups: int, transposed: bool
) -> None:
    """Let a weight read a map's channels and write those of the map that comes out."""
    (out,) = call.outputs[:1]
    outputs, inputs, rest = _of_weight(call, weight, transposed)
    call.atoms.freeze_all(rest, KERNEL)
    channels, positions = call.vector(source, 1)
    call.freeze(positions, "a convolution reads neighbouring positions")
    found, written = source.shape[1], out.shape[1]
    per_input, per_output = found // groups, written // groups
    if groups == 1:
        _meet(call, channels, inputs)
    elif per_input == 1:
        # One input each: a group goes as a whole.
        outputs = _spread(call, outputs, (groups, per_output), transposed)
        rows = outputs.view(groups, per_output)
        call.unite(rows[:, :1], rows, "")
        call.unite(rows[:, 0], _or_none(channels, found), INPUT)
        # They are counted with the outputs.
        channels = None
    else:
        # Every group loses the same.
        outputs = _spread(call, outputs, (groups, per_output), transposed)
        rows = outputs.view(groups, per_output)
        call.unite(rows[:1], rows, "")
        if channels is not None:
            columns = channels.view(groups, per_input)
            call.unite(columns[:1], columns, "")
            channels = columns[0]
        if inputs is not None and transposed:
            columns = inputs.view(groups, per_input)
            call.unite(columns[:1], columns, "")
            inputs = columns[0]
        _meet(call, channels, inputs)
    each = source if transposed else out
    call.multiplies(each.numel() * weight[:1].numel(), outputs, inputs if groups == 1 else channels)
    written_by(call, out, outputs, bias, 1)


def _of_weight(
    call: Call, weight: Tensor, transposed: bool
) -> tuple[Tensor | None, Tensor | None, Layers]:
    """Atoms of a weight's outputs and inputs, and the layers of its other dimensions."""
    first, rest = call.vector(weight, 0)
    second, rest = vector(call.atoms, rest, 1)
    return (second, first, rest) if transposed else (first, second, rest)


def _spread(call: Call, outputs: Tensor | None, shape: tuple[int, int], transposed: bool) -> Tensor:
    """The atoms of all outputs in their groups.

    A transposed convolution's weight has the outputs of one group, which all groups share.
    """
    groups, per_output = shape
    if outputs is None:
        return torch.zeros(groups * per_output, dtype=torch.long)
    return outputs.repeat(groups) if transposed and len(outputs) == per_output else outputs


def _meet(call: Call, channels: Tensor | None, inputs: Tensor | None) -> None:
    if channels is not None and inputs is not None:
        call.unite(channels, inputs, INPUT)
    else:
        call.freeze(channels, COMPUTED)
        call.freeze(inputs, INPUT)


def _or_none(atoms: Tensor | None, size: int) -> Tensor:
    return torch.zeros(size, dtype=torch.long) if atoms is None else atoms


def written_by(
    call: Call, out: Tensor, outputs: Tensor | None, bias: Tensor | None, dim: int
) -> None:
    """Label what came out along one dimension, with the bias that is added there."""
    added, rest = call.vector(bias, 0) if bias is not None else (None, ())
    call.freeze(rest, "a bias of more than one dimension")
    if outputs is None:
        call.freeze(added, "it is added to a map of fixed width")
        return
    if added is not None:
        call.unite(outputs, added, "it is added to a map of fixed width")
    elif bias is not None and bias.numel() > 1:
        call.freeze(outputs, "a bias of fixed width is added to it")
    shape = [1] * out.dim()
    shape[dim] = len(outputs)
    call.label(out, (outputs.view(shape),))


def deformable(call: Call) -> None:
    """``torchvision::deform_conv2d``: a convolution whose positions come from other maps."""
    args = call.args
    for name in ("offset", "mask"):
        call.freeze(call.layers(args[name]), "its values are positions of a deformable convolution")
    channels = args["input"].shape[1]
    groups = channels // args["weight"].shape[1]
    if args.get("offset_groups", 1) > 1:
        # Each has a share of the channels.
        atoms, _ = call.vector(args["input"], 1)
        if atoms is not None:
            parts = atoms.view(args["offset_groups"], -1)
            call.unite(parts[:1], parts, "")
    connect(call, args["input"], args["weight"], args["bias"], groups, False)


RULES: dict[str, Rule] = {
    **dict.fromkeys(("convolution", "_convolution", "mkldnn_convolution"), convolution),
    "convolution_overrideable": convolution,
    "torchvision::deform_conv2d": deformable,
}
READING = dict.fromkeys(RULES, ("input", "self"))
