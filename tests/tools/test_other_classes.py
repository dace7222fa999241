"""Pruned models are fine-tuned on other classes: a new head, everything else as it was pruned."""

import json

import pytest
import torch

from rarts_mm.apis import read_config
from rarts_mm.apis.configs import prepare_registries
from rarts_mm.registry import MODELS
from tests.conftest import run_tool

RETINA = """
default_scope = "mmdet"
custom_imports = dict(imports=["rarts_mm"], allow_failed_imports=False)
model = dict(
    type="rarts_mm.SearchModel",
    networks=1,
    space=dict(type="WidthSpace", include=["backbone", "bbox_head"]),
    architecture=dict(
        type="RetinaNet",
        data_preprocessor=dict(type="DetDataPreprocessor", pad_size_divisor=32),
        backbone=dict(type="ResNet", depth=18, base_channels=8, stem_channels=8),
        neck=dict(type="FPN", in_channels=[8, 16, 32, 64], out_channels=8, start_level=1, num_outs=4),
        bbox_head=dict(
            type="RetinaHead", num_classes=3, in_channels=8, stacked_convs=1, feat_channels=8,
            anchor_generator=dict(
                type="AnchorGenerator", octave_base_scale=4, scales_per_octave=1, ratios=[1.0],
                strides=[8, 16, 32, 64]),
            bbox_coder=dict(type="DeltaXYWHBBoxCoder"),
            loss_cls=dict(type="FocalLoss", use_sigmoid=True),
            loss_bbox=dict(type="L1Loss")),
        train_cfg=dict(assigner=dict(type="MaxIoUAssigner", pos_iou_thr=0.5, neg_iou_thr=0.4),
            sampler=dict(type="PseudoSampler"), allowed_border=-1, pos_weight=-1, debug=False),
        test_cfg=dict(nms_pre=100, score_thr=0.05, nms=dict(type="nms", iou_threshold=0.5),
            max_per_img=10)),
)
pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="Resize", scale=(64, 64)),
    dict(type="PackDetInputs"),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="CocoDataset", data_root="{data}", ann_file="annotations/train.json",
        data_prefix=dict(img="train/"), metainfo=dict(classes=("circle", "rectangle", "triangle")),
        indices=4, pipeline=pipeline))
optim_wrapper = dict(
    type="rarts_mm.RARTSOptimWrapper",
    constructor="rarts_mm.RARTSOptimWrapperConstructor",
    weights=dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=1e-9)),
    alternation=dict(type="Joint"))
train_cfg = dict(type="rarts_mm.SearchLoop", max_epochs=1)
finetune = dict(train_cfg=dict(type="EpochBasedTrainLoop", max_epochs=1))
"""


@pytest.fixture(scope="module")
def pruned(tmp_path_factory, shapes):
    """Folder of a pruned RetinaNet, backbone and head."""
    folder = tmp_path_factory.mktemp("retina")
    config = folder / "search.py"
    config.write_text(RETINA.replace("{data}", str(shapes)))
    cfg = read_config(config)
    prepare_registries(cfg)
    torch.manual_seed(0)
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict(), meta={}), folder / "1.pth")
    options = ("--criterion", "magnitude", "--input-size", 64, 64, "--out", folder)
    status, _, err = run_tool("prune", config, folder / "1.pth", "--ratio", "0.3", "0.4", *options)
    assert status == 0, err
    return folder


def train(config, work_dir, *settings):
    return run_tool("train", config, "--work-dir", work_dir, "--cfg-options", *settings)


def test_a_pruned_detector_learns_other_classes(pruned, tmp_path):
    folder = pruned / "pruned_40_magnitude_64x64"
    record = json.loads((folder / "widths.json").read_text())
    assert {"bbox_head.cls_convs.0", "bbox_head.reg_convs.0"} <= set(record["units"])
    status, out, err = train(folder / "pruned.py", tmp_path, "model.bbox_head.num_classes=5")
    assert status == 0, err
    # MMEngine's own warning, printed.
    assert "size mismatch for bbox_head.retina_cls.weight" in out
    before = torch.load(folder / "pruned.pth", weights_only=False)["state_dict"]
    after = torch.load(tmp_path / "epoch_1.pth", weights_only=False)["state_dict"]
    # At this rate nothing moves: what was loaded is what is saved, and the new head as it starts.
    for name, value in before.items():
        if value.is_floating_point() and "retina_cls" not in name and "running" not in name:
            torch.testing.assert_close(after[name], value, rtol=0, atol=1e-5)
    weight, bias = (after[f"bbox_head.retina_cls.{name}"] for name in ("weight", "bias"))
    assert weight.shape == (5, *before["bbox_head.retina_cls.weight"].shape[1:])
    assert 0 < weight.std() < 0.02
    # RetinaNet's own: a prior of one per cent.
    torch.testing.assert_close(bias, torch.full((5,), -4.595), rtol=0, atol=1e-2)


def test_other_widths_are_refused_with_other_classes_too(pruned, tmp_path):
    other = pruned / "pruned_30_magnitude_64x64" / "pruned.pth"
    status, _, err = train(
        pruned / "pruned_40_magnitude_64x64" / "pruned.py",
        tmp_path,
        "model.bbox_head.num_classes=5",
        f"load_from={other}",
    )
    assert status == 1
    assert "different prunings" in err
