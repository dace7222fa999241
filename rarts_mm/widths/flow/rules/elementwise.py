"""Operations element by element: what stands at one position goes together."""

from torch import Tensor

from ..labels import clusters, join, varying
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
        shapes.append((*ones, *tensor.shape))
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
    """``a.copy_(b)``: what a was does not matter; a view of something larger takes b's labels there."""
    target, source = call.tensors[:2]
    rank = target.dim()
    layers = tuple(
        each.reshape(*(1,) * (rank - source.dim()), *each.shape)[(0,) * max(source.dim() - rank, 0)]
        for each in call.layers(source)
    )
    call.label(target, layers)
    whole = target._base
    if whole is not None and whole is not target:
        _write_through(call, whole, target, layers)


def _write_through(call: Call, whole: Tensor, part: Tensor, layers: tuple[Tensor, ...]) -> None:
    """Label the tensor that ``part`` is a view of, where ``part`` lies in it."""
    offset = part.storage_offset() - whole.storage_offset()
    before = call.layers(whole)
    found = []
    for number in range(max(len(layers), len(before))):
        full = whole.new_zeros(whole.shape, dtype=int)
        full = full.as_strided(whole.shape, whole.stride()) if whole.is_contiguous() else full
        if number < len(before):
            full.copy_(before[number].expand(whole.shape))
        if not whole.is_contiguous():
            call.freeze((*before, *layers), "it is written into a part of another tensor")
            return
        inner = full.as_strided(part.shape, part.stride(), offset)
        inner.copy_(layers[number].expand(part.shape) if number < len(layers) else 0 * inner)
        found.append(full)
    call.label(whole, tuple(found))


def unlabelled(call: Call) -> None:
    """What only takes size and kind from its arguments, or is the same whatever channels there are."""


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
    *(
        "_prelu_kernel",
        "empty_like",
        "zeros_like",
        "ones_like",
        "full_like",
        "rand_like",
        "randn_like",
    ),
    *("_fused_dropout", "rrelu_with_noise", "log_sigmoid_forward", "bernoulli", "fill", "zero"),
    *(
        "normal",
        "uniform",
        "masked_fill",
        "hardswish",
        "leaky_relu",
        "prelu",
        "rsub",
        "floor_divide",
    ),
)
_SHAPELESS = (
    *("new_empty", "new_zeros", "new_ones", "new_full", "new_empty_strided", "sym_size", "equal"),
    *(
        "_local_scalar_dense",
        "is_same_size",
        "sym_numel",
        "sym_stride",
        "_has_compatible_shallow_copy_type",
    ),
)
RULES: dict[str, Rule] = {
    **dict.fromkeys(_LIKE, elementwise),
    **dict.fromkeys(_SHAPELESS, unlabelled),
    "copy": copied,
}
