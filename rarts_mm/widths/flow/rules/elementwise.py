"""Operations element by element: what stands at one position goes together."""

from itertools import zip_longest

import torch
from torch import Tensor

from ..labels import Layers, clusters, join, varying
from ..tracing import Call, Rule

FIXED = "it meets a tensor whose width is fixed in the code"


def elementwise(call: Call) -> None:
    """Any function of corresponding elements, with broadcasting."""
    outputs = call.outputs
    if not outputs:
        return
    rank = outputs[0].dim()
    shapes, layers = [], []
    for number, tensor in enumerate(call.tensors):
        # More dimensions than the result has none that broadcasts with it.
        ones = (1,) * max(rank - tensor.dim(), 0)
        # What has been expanded is the same for all channels; a trial shows whether to a fixed width.
        sizes = zip(tensor.shape, tensor.stride(), strict=True)
        shapes.append((*ones, *(size if stride else 1 for size, stride in sizes)))
        layers += [(number, layer.reshape(*ones, *layer.shape)) for layer in call.layers(tensor)]
    found = []
    for cluster in clusters(layers):
        layer = join(call.atoms, [each for _, each in cluster])
        members = {number for number, _ in cluster}
        dims = varying(layer)
        for number, shape in enumerate(shapes):
            if number not in members and any(shape[dim] > 1 for dim in dims):
                call.freeze(layer, FIXED)
        found.append(layer)
    for out in outputs:
        if out.dim() == rank:
            call.label(out, tuple(found))


def copied(call: Call) -> None:
    """``a.copy_(b)``: what a was does not matter; what a is a part of has b's labels there."""
    target, source = call.tensors[:2]
    layers = call.layers(source)
    if source.dim() > target.dim():
        call.freeze(layers, "it is copied into a tensor of fewer dimensions")
        return
    ones = (1,) * (target.dim() - source.dim())
    layers = tuple(layer.reshape(*ones, *layer.shape) for layer in layers)
    call.label(target, layers)
    whole = target._base
    if whole is not None:
        _write_through(call, whole, target, layers)


def _write_through(call: Call, whole: Tensor, part: Tensor, layers: Layers) -> None:
    """Label the tensor that ``part`` is a view of, where ``part`` lies in it."""
    before = call.layers(whole)
    if not whole.is_contiguous():
        call.freeze((*before, *layers), "it is written into a part of another tensor")
        return
    offset = part.storage_offset() - whole.storage_offset()
    found = []
    for old, new in zip_longest(before, layers):
        full = torch.zeros(whole.shape, dtype=torch.long)
        if old is not None:
            full.copy_(old.expand(whole.shape))
        inner = full.as_strided(part.shape, part.stride(), offset)
        if new is None:
            inner.zero_()
        else:
            inner.copy_(new.expand(part.shape))
        found.append(full)
    call.label(whole, tuple(found))


def unlabelled(call: Call) -> None:
    """What only takes size and kind from its arguments, or is the same whatever channels there are."""


def looked_at(call: Call) -> None:
    """``x.item()``, ``x.equal(y)``: the code goes on by its value."""
    for tensor in call.tensors:
        call.freeze(call.layers(tensor), "the code looks at its value")


# Element by element, though torch does not tag them so.
_LIKE = (
    *(
        "alias",
        "clone",
        "contiguous",
        "detach",
        "_to_copy",
        "lift_fresh",
        "dropout",
        "native_dropout",
    ),
    *("_prelu_kernel", "prelu", "empty_like", "zeros_like", "ones_like", "full_like", "rand_like"),
    *(
        "randn_like",
        "rrelu_with_noise",
        "log_sigmoid_forward",
        "bernoulli",
        "fill",
        "zero",
        "normal",
    ),
    *("uniform", "masked_fill", "hardswish", "leaky_relu", "rsub", "floor_divide"),
)
_SHAPELESS = (
    *("new_empty", "new_zeros", "new_ones", "new_full", "new_empty_strided", "is_same_size"),
)
RULES: dict[str, Rule] = {
    **dict.fromkeys(_LIKE, elementwise),
    **dict.fromkeys(_SHAPELESS, unlabelled),
    **dict.fromkeys(("_local_scalar_dense", "equal"), looked_at),
    "copy": copied,
}
