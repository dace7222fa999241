"""Stand-ins for operators that torch cannot run on tensors without data.

MMCV's compiled operators need data. While only shapes matter, a layer that uses one gets a forward
that has the same shapes and, where the operator is a convolution, its cost.
"""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn


def put_stand_ins(network: nn.Module) -> None:
    """Give the layers of ``network`` that need one a stand-in, in place."""
    for module in network.modules():
        for cls in type(module).__mro__:
            if forward := _STAND_INS.get(f"{cls.__module__}.{cls.__qualname__}"):
                module.forward = partial(forward, module)
                break


def _roi_layer(layer: nn.Module, features: Tensor, rois: Tensor, *_) -> Tensor:
    """(k, channels, *output_size) of k boxes: interpolation, which is not counted."""
    size = layer.output_size
    size = (size, size) if isinstance(size, int) else tuple(size)
    return features.new_zeros(len(rois), features.shape[1], *size)


def _single_level(extractor: nn.Module, features, rois: Tensor, *_, **__) -> Tensor:
    """Without the choice of a level for each box: the shape of its result depends on values."""
    return extractor.roi_layers[0](features[0], rois)


def _deformable(layer: nn.Module, x: Tensor, *_, **__) -> Tensor:
    """A deformable convolution multiplies as often as a plain one, and some find their offsets."""
    if hasattr(layer, "conv_offset"):
        layer.conv_offset(x)
    return F.conv2d(
        x, layer.weight, None, layer.stride, layer.padding, layer.dilation, layer.groups
    )


# By name: a library that is not installed, or not used, need not be imported.
_STAND_INS = {
    "mmcv.ops.roi_align.RoIAlign": _roi_layer,
    "mmcv.ops.roi_pool.RoIPool": _roi_layer,
    "mmcv.ops.deform_conv.DeformConv2d": _deformable,
    "mmcv.ops.modulated_deform_conv.ModulatedDeformConv2d": _deformable,
    "mmdet.models.roi_heads.roi_extractors.single_level_roi_extractor.SingleRoIExtractor": (
        _single_level
    ),
}
