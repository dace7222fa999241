"""Operations that take a map's channels apart by numbers."""

from torch import Tensor

from ..tracing import Call, Rule
from .movement import moved


def split(call: Call) -> None:
    """``split``, ``chunk``: parts of equal size lose the same, so that they stay equal."""
    source = call.tensors[0]
    dim = call.args.get("dim", 0) % max(source.dim(), 1)
    sizes = {out.shape[dim] for out in call.outputs}
    if len(sizes) == 1:
        for layer in call.layers(source):
            _equal_parts(call, layer, dim, *sizes)
    moved(call)


def sliced(call: Call) -> None:
    """``x[:, a:b]``: a half, a third and so on is taken for one of equal parts, unless another slice tells otherwise."""
    source, (out,) = call.tensors[0], call.outputs
    dim = call.args.get("dim", 0) % source.dim()
    start = call.args.get("start") or 0
    start = start + source.shape[dim] if start < 0 else start
    length, step = out.shape[dim], call.args.get("step") or 1
    if step != 1:
        stays = tuple(layer for layer in call.layers(source) if layer.shape[dim] > 1)
        call.freeze(stays, "every other one of it is taken")
    is_part = step == 1 and 0 < length < source.shape[dim]
    alike = call.lengths_taken(source, dim, length) == {length}
    if is_part and alike and source.shape[dim] % length == 0 and start % length == 0:
        for layer in call.layers(source):
            _equal_parts(call, layer, dim, length)
    moved(call)


def gated(call: Call) -> None:
    """``glu``: one half times a function of the other."""
    source, (out,) = call.tensors[0], call.outputs
    dim = call.args.get("dim", -1) % source.dim()
    half = out.shape[dim]
    found = []
    for layer in call.layers(source):
        _equal_parts(call, layer, dim, half)
        found.append(layer.narrow(dim, 0, half) if layer.shape[dim] > 1 else layer)
    call.label(out, tuple(found))


def _equal_parts(call: Call, layer: Tensor, dim: int, length: int) -> None:
    # Beside something of fixed width it is no matter of equal parts.
    if layer.shape[dim] > 1 and length > 0 and bool(layer.all()):
        parts = layer.unflatten(dim, (-1, length))
        call.atoms.unite(parts.narrow(dim, 0, 1), parts)


RULES: dict[str, Rule] = {
    **dict.fromkeys(("split", "split_with_sizes", "chunk", "unsafe_split", "unsafe_chunk"), split),
    **dict.fromkeys(("slice", "narrow"), sliced),
    "glu": gated,
}
