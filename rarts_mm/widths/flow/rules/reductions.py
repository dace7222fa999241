"""Sums, means, maxima and softmax: over positions each channel is by itself.

Over channels a sum or a root of squares reads them, as a layer does, and what is zero adds nothing; of means,
maxima and softmax all channels stay, and so do they of what is computed from weights alone.
"""

from torch import Tensor

from ..tracing import Call, Rule
from .elementwise import elementwise


def reduced(call: Call) -> None:
    """A number for each position that is left."""
    if "other" in call.args:
        # The maximum of two maps.
        elementwise(call)
        return
    source = call.tensors[0]
    dims = _dims(call, source)
    keep = bool(call.args.get("keepdim", False))
    for out in call.outputs:
        found = []
        for layer in call.layers(source):
            if any(layer.shape[dim] > 1 for dim in dims):
                found += _over(call, layer, dims, keep)
            else:
                found.append(layer if keep else _without(layer, dims))
        call.label(out, tuple(layer for layer in found if layer.dim() == out.dim()))


def _over(call: Call, layer: Tensor, dims: list[int], keep: bool) -> list[Tensor]:
    """A layer that varies along what is reduced: it stays, unless the rest tells its atoms apart."""
    others = [dim for dim in range(layer.dim()) if dim not in dims and layer.shape[dim] > 1]
    if not others and _adds_up(call):
        return []
    if not others:
        call.freeze(layer, f"{call.name} over channels")
        return []
    layer = _united(call, layer, dims)
    return [layer if keep else _without(layer, dims)]


def _united(call: Call, layer: Tensor, dims: list[int]) -> Tensor:
    """A layer whose atoms along some dimensions can only go together."""
    for dim in dims:
        largest = layer.amax(dim, keepdim=True)
        call.atoms.unite(largest, layer)
        layer = largest
    return layer


def _adds_up(call: Call) -> bool:
    """Whether zeros among what is reduced change nothing.

    Of a weight they would: its norm is over the columns of channels that are zero, too.
    """
    if call.is_fixed(call.tensors[0]):
        return False
    if call.name in _SUMS:
        return True
    order = call.args.get("ord", call.args.get("p", 2))
    return call.name in _ROOTS and isinstance(order, int | float) and order > 0


def _without(layer: Tensor, dims: list[int]) -> Tensor:
    for dim in sorted(dims, reverse=True):
        layer = layer.squeeze(dim)
    return layer


def _dims(call: Call, source: Tensor) -> list[int]:
    dims = call.args.get("dim")
    if dims is None or dims == []:
        return list(range(source.dim()))
    dims = [dims] if isinstance(dims, int) else dims
    return [dim % max(source.dim(), 1) for dim in dims]


def along(call: Call) -> None:
    """Same shape, but each element depends on all along one dimension: softmax, cumulative sums, sorting."""
    source = call.tensors[0]
    dims = _dims(call, source)
    layers = call.layers(source)
    if call.whole_heads:
        layers = tuple(_of_heads(call, layer, dims) for layer in layers)
    stays = tuple(layer for layer in layers if any(layer.shape[dim] > 1 for dim in dims))
    call.freeze(stays, f"{call.name} over channels")
    rest = tuple(layer for layer in layers if all(layer is not other for other in stays))
    for out in call.outputs:
        if out.dim() == source.dim():
            call.label(out, rest)


def _of_heads(call: Call, layer: Tensor, dims: list[int]) -> Tensor:
    """A layer in which what one head depends on together can only go together."""
    if all(layer.shape[dim] == 1 for dim in range(layer.dim()) if dim not in dims):
        return layer
    return _united(call, layer, dims)


_SUMS, _ROOTS = ("sum", "nansum"), ("linalg_vector_norm", "norm")
_REDUCED = (
    *("mean", "sum", "amax", "amin", "var", "std", "var_mean", "std_mean", "max", "min", "prod"),
    *("linalg_vector_norm", "norm", "logsumexp", "any", "all", "argmax", "argmin", "nansum"),
    *("count_nonzero", "median"),
)
_ALONG = (
    *("_softmax", "_log_softmax", "softmax", "log_softmax", "_safe_softmax", "cumsum", "cumprod"),
    *("sort", "topk", "argsort", "kthvalue"),
)
RULES: dict[str, Rule] = {**dict.fromkeys(_REDUCED, reduced), **dict.fromkeys(_ALONG, along)}
READING = dict.fromkeys((*_SUMS, *_ROOTS), ("self",))
