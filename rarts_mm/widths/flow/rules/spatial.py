"""Operations on the positions of maps, the same in each channel: pooling, resizing."""

from ..tracing import Call, Rule


def each_channel(call: Call) -> None:
    """Maps in, maps out; the last dimensions change, what varies along them has no rule."""
    source = call.tensors[0]
    for other in call.tensors[1:]:
        call.freeze(call.layers(other), "its values are used as positions")
    for out in call.outputs:
        if out.dim() != source.dim():
            call.freeze(call.layers(source), f"{call.name} changes the number of dimensions")
            continue
        changed = [d for d in range(out.dim()) if out.shape[d] != source.shape[d] or d >= 2]
        found = []
        for layer in call.layers(source):
            if any(layer.shape[dim] > 1 for dim in changed):
                # Each position reads several.
                if any(layer.shape[dim] > 1 for dim in range(out.dim()) if dim not in changed):
                    for dim in changed:
                        call.atoms.unite(layer.narrow(dim, 0, 1), layer)
                        layer = layer.amax(dim, keepdim=True)
                    found.append(layer)
                else:
                    call.freeze(layer, f"{call.name} mixes positions")
            else:
                found.append(layer)
        call.label(out, tuple(found))


def unfolded(call: Call) -> None:
    """``im2col``: the pixels of a window, channel by channel."""
    source, out = call.tensors[0], call.outputs[0]
    channels, rest = call.vector(source, 1)
    call.freeze(rest, "windows of pixels are read")
    if channels is not None:
        window = out.shape[1] // source.shape[1]
        call.label(out, (channels.repeat_interleave(window).view(1, -1, 1),))


def regions(call: Call) -> None:
    """``roi_align``, ``roi_pool``: regions of maps, each channel by itself."""
    source, out = call.tensors[0], call.outputs[0]
    for other in call.tensors[1:]:
        call.freeze(call.layers(other), "its values are used as positions")
    channels, rest = call.vector(source, 1)
    call.freeze(rest, f"{call.name} mixes positions")
    if channels is not None:
        call.label(out, (channels.view(1, -1, 1, 1),))


_NAMES = (
    *(
        "max_pool1d",
        "max_pool2d",
        "max_pool3d",
        "max_pool2d_with_indices",
        "max_pool3d_with_indices",
    ),
    *("mkldnn_max_pool2d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d"),
    *("adaptive_avg_pool2d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_max_pool2d"),
    *(
        "adaptive_max_pool1d",
        "upsample_nearest1d",
        "upsample_nearest2d",
        "_upsample_nearest_exact2d",
    ),
    *(
        "upsample_bilinear2d",
        "_upsample_bilinear2d_aa",
        "upsample_bicubic2d",
        "_upsample_bicubic2d_aa",
    ),
    *("upsample_linear1d", "upsample_trilinear3d", "reflection_pad1d", "reflection_pad2d"),
    *("replication_pad1d", "replication_pad2d", "grid_sampler_2d", "quantized_max_pool2d"),
)
_REGIONS = ("torchvision::roi_align", "torchvision::roi_pool")
RULES: dict[str, Rule] = {
    **dict.fromkeys(_NAMES, each_channel),
    **dict.fromkeys(_REGIONS, regions),
    "im2col": unfolded,
}
