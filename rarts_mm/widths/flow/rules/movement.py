"""Operations that only move elements: the same operation moves the labels."""

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from ..labels import clusters, join
from ..tracing import Call, Rule


def moved(call: Call) -> None:
    """One tensor whose elements are moved, each output holding some of them."""
    source = call.tensors[0]
    outputs = call.outputs
    found: list[list[Tensor]] = [[] for _ in outputs]
    for layer in call.layers(source):
        full = layer.expand(source.shape)
        args = [full if value is source else value for value in call.positional]
        moved = call.func(*args, **call.keywords)
        for layers, result in zip(found, _listed(moved), strict=True):
            layers.append(result)
    for out, layers in zip(outputs, found, strict=True):
        call.label(out, tuple(layers))


def viewed(call: Call) -> None:
    """A tensor of another shape with the same elements.

    Where a dimension is cut into several, what stays has to be as regular: its first parts lose the same. Where
    heads go as a whole, what is computed of them tells what goes together.
    """
    source, (out,) = call.tensors[0], call.outputs
    found = []
    for layer in call.layers(source):
        reshaped = layer.expand(source.shape).reshape(out.shape)
        for dims in _split_dimensions(source.shape, out.shape):
            inner = [dim for dim in dims if _varies(reshaped, dim)]
            if len(inner) > 1:
                call.splits(layer)
            if call.whole_heads and not call.is_fixed(source):
                continue
            # Equal along all but the last of them.
            for dim in inner[:-1]:
                call.atoms.unite(reshaped.narrow(dim, 0, 1), reshaped)
        found.append(reshaped)
    call.label(out, tuple(found))


def _varies(layer: Tensor, dim: int) -> bool:
    """Whether a layer that need not be compact varies along a dimension."""
    if layer.shape[dim] == 1 or layer.stride(dim) == 0:
        return False
    return not torch.equal(layer, layer.narrow(dim, 0, 1).expand_as(layer))


def _split_dimensions(before: tuple[int, ...], after: tuple[int, ...]) -> list[list[int]]:
    """Runs of dimensions of the new shape that take the place of a run of the old one, if several."""
    found = []
    i = j = 0
    while i < len(before) and j < len(after):
        old, new, run = before[i], after[j], [j]
        i, j = i + 1, j + 1
        while old != new:
            if old < new:
                old *= before[i]
                i += 1
            else:
                new *= after[j]
                run.append(j)
                j += 1
        if sum(after[dim] > 1 for dim in run) > 1:
            found.append(run)
    return found


def expanded(call: Call) -> None:
    """New or longer dimensions, along which nothing varies."""
    source, (out,) = call.tensors[0], call.outputs
    ones = (1,) * (out.dim() - source.dim())
    call.label(out, tuple(layer.reshape(*ones, *layer.shape) for layer in call.layers(source)))


def joined(call: Call) -> None:
    """``cat`` and ``stack``: what varies along common dimensions becomes one layer."""
    tensors = [tensor for tensor in call.tensors if tensor.dim() > 0 and tensor.numel()]
    (out,) = call.outputs
    dim = call.args.get("dim", 0)
    stacking = call.name == "stack"
    dim = dim + out.dim() if dim < 0 else dim
    labelled = [(n, layer) for n, tensor in enumerate(tensors) for layer in call.layers(tensor)]
    found = []
    for cluster in clusters(labelled):
        if stacking or all(layer.shape[dim] == 1 for _, layer in cluster):
            # Positions side by side, all with the same channels: whoever reads one reads the others.
            _same_channels(call, cluster, len(tensors))
        pieces = []
        for number, tensor in enumerate(tensors):
            own = [layer for n, layer in cluster if n == number]
            piece = torch.zeros((), dtype=torch.long).expand(tensor.shape)
            for layer in own:
                piece = torch.maximum(piece, layer.expand(tensor.shape))
            if len(own) > 1:
                for layer in own:
                    call.atoms.unite(piece, layer.expand(tensor.shape))
            pieces.append(piece)
        found.append(torch.stack(pieces, dim) if stacking else torch.cat(pieces, dim))
    call.label(out, tuple(found))


def _same_channels(call: Call, cluster: list[tuple[int, Tensor]], number: int) -> None:
    if len({n for n, _ in cluster}) == number:
        first, *others = (layer for _, layer in cluster)
        for other in others:
            call.atoms.unite(first, other)


def padded(call: Call) -> None:
    """``constant_pad_nd``: what is added beside a map belongs to the channel it is added to."""
    source, (out,) = call.tensors[0], call.outputs
    pads = call.args["pad"]
    found = []
    for layer in call.layers(source):
        # From the last dimension on.
        for number in range(len(pads) // 2):
            dim = source.dim() - 1 - number
            low, high = pads[2 * number : 2 * number + 2]
            if layer.shape[dim] > 1 and (low or high):
                sides = [max(low, 0), max(high, 0)]
                spec = [0, 0] * number + sides
                layer = torch.nn.functional.pad(layer, spec)
                layer = layer.narrow(dim, max(-low, 0), out.shape[dim])
        found.append(layer)
    call.label(out, tuple(found))


def strided(call: Call) -> None:
    """``as_strided``: known where it only says again what there is."""
    source, (out,) = call.tensors[0], call.outputs
    if out.shape == source.shape and call.args["storage_offset"] in (None, source.storage_offset()):
        call.label(out, call.layers(source))
    else:
        call.freeze(call.layers(source), "it is read through other strides")


def indexed(call: Call) -> None:
    """``x[..., indices, ...]``, embeddings and the like: what is chosen by values stays whole, whichever of it
    the example has chosen."""
    source = call.tensors[0]
    for tensor in call.tensors[1:]:
        call.freeze(call.layers(tensor), "its values are used as indices")
    (out,) = call.outputs
    chosen = _chosen_dimensions(call, source)
    layers, found = call.layers(source), []
    for layer in layers:
        if any(layer.shape[dim] > 1 for dim in chosen):
            call.freeze(layer, "it is chosen by indices")
            continue
        full = layer.expand(source.shape).contiguous()
        args = tree_map(lambda value: full if value is source else value, call.positional)  # noqa: B023
        found.append(call.func(*args, **call.keywords))
    call.label(out, tuple(found))


def _chosen_dimensions(call: Call, source: Tensor) -> list[int]:
    if call.name == "embedding":
        return [0]
    if "indices" in call.args:
        indices = call.args["indices"]
        return [dim for dim, index in enumerate(indices) if index is not None]
    return [call.args["dim"] % source.dim()]


def positional(call: Call) -> None:
    """Operations in which the place of an element counts, along some dimensions: what varies along these stays.

    ``roll``, ``select``, sliding windows, triangles: with fewer channels others would stand there.
    """
    source = call.tensors[0]
    dims = _placed_dimensions(call, source)
    stays = tuple(
        layer for layer in call.layers(source) if any(layer.shape[dim] > 1 for dim in dims)
    )
    call.freeze(stays, f"{call.name} goes by its place")
    moved(call)


def _placed_dimensions(call: Call, source: Tensor) -> list[int]:
    if call.name in ("tril", "triu"):
        return [source.dim() - 2, source.dim() - 1]
    if call.name == "diagonal":
        dims = [call.args["dim1"], call.args["dim2"]]
    elif call.name in ("roll", "rot90"):
        dims = call.args["dims"] or range(source.dim())
    else:
        dims = [call.args.get("dim", call.args.get("dimension"))]
    return [dim % source.dim() for dim in dims]


def shuffled_channels(call: Call) -> None:
    """``channel_shuffle``: every group loses the same."""
    source, groups = call.tensors[0], call.args["groups"]
    for layer in call.layers(source):
        if layer.shape[1] > 1:
            parts = layer.unflatten(1, (groups, -1))
            call.atoms.unite(parts.narrow(1, 0, 1), parts)
    moved(call)


def put_at(call: Call) -> None:
    """``x[indices] = values``: the rows that are written have the labels of what is written there."""
    target, out = call.tensors[0], call.outputs[0]
    values = call.args["values"]
    found = list(call.layers(target))
    for layer in call.layers(values):
        found.append(layer.reshape(*(1,) * max(target.dim() - layer.dim(), 0), *layer.shape))
    layers = []
    for cluster in clusters((0, layer) for layer in found if layer.dim() == target.dim()):
        layers.append(join(call.atoms, [layer for _, layer in cluster]))
    for layer in layers:
        if any(size not in (1, target.shape[dim]) for dim, size in enumerate(layer.shape)):
            call.freeze(layer, "it is written into a part of another tensor")
            return
    call.label(out, tuple(layers))


def shuffled_pixels(call: Call) -> None:
    """``pixel_shuffle``, ``pixel_unshuffle``: the channels of one block can only go together."""
    source = call.tensors[0]
    if call.name == "pixel_shuffle":
        factor = call.args["upscale_factor"] ** 2
        for layer in call.layers(source):
            dim = source.dim() - 3
            if layer.shape[dim] > 1:
                blocks = layer.unflatten(dim, (-1, factor))
                call.atoms.unite(blocks.narrow(dim + 1, 0, 1), blocks)
    moved(call)


def _listed(result: Tensor | list | tuple) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else list(result)


_MOVED = (
    *("permute", "transpose", "t", "squeeze", "unsqueeze", "roll", "flip", "repeat", "rot90"),
    *(
        "unbind",
        "select",
        "unfold",
        "tril",
        "triu",
        "repeat_interleave",
        "movedim",
        "channel_shuffle",
    ),
    *("native_channel_shuffle", "diagonal", "tile"),
)
_POSITIONAL = ("roll", "rot90", "select", "unfold", "tril", "triu", "diagonal")
_VIEWED = ("view", "_unsafe_view", "reshape", "_reshape_alias", "flatten", "unflatten", "view_copy")
RULES: dict[str, Rule] = {
    **dict.fromkeys(_MOVED, moved),
    **dict.fromkeys(_POSITIONAL, positional),
    **dict.fromkeys(("channel_shuffle", "native_channel_shuffle"), shuffled_channels),
    **dict.fromkeys(_VIEWED, viewed),
    **dict.fromkeys(("expand", "expand_as", "broadcast_to"), expanded),
    **dict.fromkeys(("cat", "stack", "concat"), joined),
    **dict.fromkeys(("index", "index_select", "gather", "take_along_dim", "embedding"), indexed),
    **dict.fromkeys(("pixel_shuffle", "pixel_unshuffle"), shuffled_pixels),
    **dict.fromkeys(("index_put", "_index_put_impl", "index_copy"), put_at),
    "constant_pad_nd": padded,
    "as_strided": strided,
}
