"""Products that sum over a dimension of both factors: linear layers, attention."""

from collections.abc import Iterable, Sequence

from torch import Tensor

from ..labels import Layers, clusters, join, varying, vector
from ..tracing import Call, Rule
from .convolution import INPUT, written_by
from .elementwise import FIXED

FACTOR = "it is multiplied with something of fixed width and summed over"
POSITIONS = "it lies along the positions of an attention"


def matrix_product(call: Call) -> None:
    """``mm``, ``bmm``: (..., i, k) times (..., k, j)."""
    first, second = call.tensors[:2]
    layers = product(call, (first, call.layers(first)), (second, call.layers(second)))
    call.label(call.outputs[0], layers)


def added_product(call: Call) -> None:
    """``addmm``, ``baddbmm``: with something that is added."""
    args, (out,) = call.args, call.outputs
    names = ("mat1", "mat2") if call.name == "addmm" else ("batch1", "batch2")
    layers = product(call, *((args[name], call.layers(args[name])) for name in names))
    bias, last = args["self"], out.dim() - 1
    outputs, rest = vector(call.atoms, layers, last)
    if bias.dim() == 1 and not rest:
        written_by(call, out, outputs, bias, last)
    else:
        call.freeze((*layers, *call.layers(bias)), "it is added to a product of another form")


def linear(call: Call) -> None:
    """``linear``, where it is one operation."""
    args, (out,) = call.args, call.outputs
    source, weight = args["input"], args["weight"]
    inputs, rest = call.vector(source, source.dim() - 1)
    call.freeze(rest, "a linear layer writes the same for all of them")
    outputs, others = call.vector(weight, 0)
    columns, _ = vector(call.atoms, others, 1)
    call.unite(inputs, columns, INPUT)
    call.multiplies(source.numel() * out.shape[-1], inputs, outputs)
    written_by(call, out, outputs, args["bias"], out.dim() - 1)


def product(call: Call, first: tuple[Tensor, Layers], second: tuple[Tensor, Layers]) -> Layers:
    """The layers of a matrix product; what varies along the dimension that is summed over is united.

    Args:
        first, second: (..., i, k) and (..., k, j), each with its layers.
    """
    maps = not any(call.is_fixed(tensor) for tensor, _ in (first, second))
    found, summed = [], []
    for number, (layers, dim, free) in enumerate(((first[1], -1, -2), (second[1], -2, -1))):
        over = []
        for layer in layers:
            if layer.shape[dim] == 1:
                found.append((number, layer))
                continue
            # Each sum reads all that stands along the other dimension.
            largest = layer.amax(free, keepdim=True)
            call.unite(largest, layer, FACTOR)
            if maps and call.whole_heads:
                # One head's dimensions.
                head = largest.amax(dim, keepdim=True)
                call.unite(head, largest, FACTOR)
                found.append((number, head))
                continue
            over.append(largest.squeeze(free))
        for other in over[1:]:
            call.unite(over[0], other, FACTOR)
        summed.append(over[0] if over else None)
    call.unite(*summed, FACTOR)
    if maps:
        call.contracts(tuple(each for each in summed if each is not None))
    of = [each for each in summed if each is not None][:1]
    call.multiplies(first[0].numel() * second[0].shape[-1], *of, *(layer for _, layer in found))
    if maps:
        return tuple(_joined(call, found, (first[0], second[0])))
    return tuple(layer for _, layer in found)


def attention(call: Call) -> None:
    """``scaled_dot_product_attention`` in its variants: q k^T, softmax, times v."""
    args = call.args
    keys = tuple(layer.transpose(-2, -1) for layer in call.layers(args["key"]))
    query = args["query"], call.layers(args["query"])
    logits = product(call, query, (args["key"].transpose(-2, -1), keys))
    if args.get("scale") is None and not call.whole_heads:
        heads = args["query"].shape[-3] if args["query"].dim() > 3 else 1
        call.scaled_by(tuple(layer for layer in keys if layer.shape[-2] > 1), heads)
    for name in ("attn_mask", "attn_bias"):
        if isinstance(mask := args.get(name), Tensor):
            ones = (1,) * (args["query"].dim() - mask.dim())
            logits += tuple(layer.reshape(*ones, *layer.shape) for layer in call.layers(mask))
    values = call.layers(args["value"])
    # What varies along the positions of the logits, or anything beside single dimensions of heads.
    of_heads = [x for x in logits if call.whole_heads and x.shape[-2] == x.shape[-1] == 1]
    call.freeze(tuple(x for x in logits if all(x is not y for y in of_heads)), POSITIONS)
    call.freeze(tuple(layer for layer in values if layer.shape[-2] > 1), POSITIONS)
    rows, columns = args["query"].shape[-2], args["key"].shape[-2]
    call.multiplies(args["value"].numel() // columns * rows * columns, *values)
    found = [(0, layer) for layer in of_heads]
    found += [(1, layer) for layer in values if layer.shape[-2] == 1]
    factors = args["query"], args["value"]
    call.label(call.outputs[0], tuple(_joined(call, found, factors)))


def _joined(
    call: Call, layers: Iterable[tuple[int, Tensor]], factors: Sequence[Tensor]
) -> list[Tensor]:
    """One layer of those that vary along common dimensions: both factors of a product have the same heads.

    Args:
        layers: each with the number of its factor.
    """
    found = []
    for cluster in clusters(layers):
        layer = join(call.atoms, [each for _, each in cluster])
        members = {number for number, _ in cluster}
        # The products of a batch lie along all dimensions but the last two.
        dims = [dim for dim in varying(layer) if dim < layer.dim() - 2]
        for number, factor in enumerate(factors):
            if number not in members and any(factor.shape[dim] > 1 for dim in dims):
                call.freeze(layer, FIXED)
        found.append(layer)
    return found


_ATTENTION = tuple(
    f"_scaled_dot_product_{kind}"
    for kind in (
        *("flash_attention_for_cpu", "flash_attention", "efficient_attention", "cudnn_attention"),
        *("attention_math", "fused_attention_overrideable"),
    )
)
RULES: dict[str, Rule] = {
    **dict.fromkeys(("mm", "bmm"), matrix_product),
    **dict.fromkeys(("addmm", "baddbmm"), added_product),
    "linear": linear,
    **dict.fromkeys(_ATTENTION, attention),
}
READING = {
    **dict.fromkeys(("mm", "bmm"), ("self",)),
    "addmm": ("mat1",),
    "baddbmm": ("batch1",),
    "linear": ("input",),
    **dict.fromkeys(_ATTENTION, ("query", "key")),
}
