"""Detectors that compute the same predict the same objects; those that do not are told apart."""

import copy
from pathlib import Path

import mmdet
import pytest
import torch
from mmcv.ops import nms
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope

from rarts_mm.registry import MODELS
from rarts_mm.widths.flow.uneven import make_uneven
from rarts_mm.widths.predictions import compare_predictions, suppress
from rarts_mm.widths.pruned import without_pretrained
from rarts_mm.widths.running import ProofError

CONFIGS = Path(mmdet.__file__).parent / ".mim" / "configs"
IMAGES = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=["two stages", "one stage"])
def detector(request):
    init_default_scope("mmdet")
    torch.manual_seed(0)
    if request.param == "one stage":
        cfg = Config.fromfile(CONFIGS / "retinanet/retinanet_r18_fpn_1x_coco.py").model
        cfg.neck.out_channels = cfg.bbox_head.in_channels = cfg.bbox_head.feat_channels = 16
    else:
        cfg = Config.fromfile(
            CONFIGS / "mask_rcnn/mask-rcnn_r18_fpn_8xb8-amp-lsj-200e_coco.py"
        ).model
    network = MODELS.build(ConfigDict(without_pretrained(cfg.to_dict()))).double()
    network.eval()
    return make_uneven(network)


def test_a_copy_predicts_the_same(detector):
    masks = getattr(getattr(detector, "roi_head", None), "mask_head", None)
    assert compare_predictions(detector, copy.deepcopy(detector), IMAGES) > 0
    if masks is not None:
        assert detector.roi_head.mask_head is masks


def test_other_objects_are_noticed(detector):
    other = copy.deepcopy(detector)
    head = other.bbox_head if hasattr(other, "bbox_head") else other.roi_head.bbox_head
    layer = getattr(head, "retina_reg", None) or head.fc_reg
    with torch.no_grad():
        layer.bias += 1e-3
    with pytest.raises(ProofError, match=r"bboxes of the objects|predicts \d+ objects"):
        compare_predictions(detector, other, IMAGES)


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize(("score", "number"), [(0, -1), (0.3, -1), (0.2, 7)])
def test_suppression_is_mmcvs(offset, score, number):
    generator = torch.Generator().manual_seed(0)
    corners = 20 * torch.rand(60, 2, generator=generator)
    boxes = torch.cat([corners, corners + 1 + 15 * torch.rand(60, 2, generator=generator)], 1)
    scores = torch.rand(60, generator=generator)
    wanted = nms(boxes, scores, 0.4, offset, score, number)
    found = suppress(boxes, scores, 0.4, offset, score, number)
    assert 0 < len(wanted[1]) < 60
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_what_is_no_detector_is_not_compared():
    layer = torch.nn.Linear(3, 3)
    assert compare_predictions(layer, layer, IMAGES) is None
