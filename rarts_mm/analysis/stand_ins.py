"""Stand-ins for operators that torch cannot run on tensors without data.

MMCV's compiled operators need data. While only shapes matter, a layer that uses one gets a forward
that has the same shapes and, where the operator is a convolution, its cost.
"""

from functools import partial

import torch.nn.functional as F
from mmcv.ops import DeformConv2d, ModulatedDeformConv2d, RoIAlign, RoIPool
from torch import Tensor, nn


def put_stand_ins(network: nn.Module) -> None:
    """Give the layers of ``network`` that need one a stand-in, in place."""
    for module in network.modules():
        for kind, forward in _STAND_INS.items():
            if isinstance(module, kind):
                module.forward = partial(forward, module)


def _roi_layer(layer: nn.Module, features: Tensor, rois: Tensor, *_) -> Tensor:
    """(k, channels, *output_size) of k boxes: interpolation, which is not counted."""
    size = layer.output_size
    size = (size, size) if isinstance(size, int) else tuple(size)
    return features.new_zeros(len(rois), features.shape[1], *size)


def _single_level(extractor: nn.Module, features, rois: Tensor, *_, **__) -> Tensor:
    """Without the choice of a level for each box, whose result's shape depends on values."""
    return extractor.roi_layers[0](features[0], rois)


def _deformable(layer: nn.Module, x: Tensor, *_, **__) -> Tensor:
    """A deformable convolution multiplies as often as a plain one."""
    groups = layer.groups
    return F.conv2d(x, layer.weight, None, layer.stride, layer.padding, layer.dilation, groups)


_STAND_INS = {
    RoIAlign: _roi_layer,
    RoIPool: _roi_layer,
    DeformConv2d: _deformable,
    ModulatedDeformConv2d: _deformable,
}
try:
    from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
except ImportError:  # Classifiers alone need no MMDetection.
    pass
else:
    _STAND_INS[SingleRoIExtractor] = _single_level
