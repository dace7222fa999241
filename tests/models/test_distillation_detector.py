"""Distilling into detectors: logits and features against formulas written by hand."""

import copy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config, ConfigDict
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData
from mmengine.utils import get_installed_path
from torch import nn

from rarts_mm.models.distillation.recording import recorded
from tests.conftest import CONFIGS
from tests.models.distilling import gradients, save

CLASSES, WIDTH, SIZE = 3, 32, 64
BACKBONE = dict(
    type="SwinTransformer",
    embed_dims=8,
    depths=[1, 1, 1, 1],
    num_heads=[1, 2, 2, 2],
    window_size=3,
    drop_path_rate=0.0,
    convert_weights=False,
)
NORM = dict(mean=[120.0, 125.0, 130.0], std=[60.0, 61.0, 62.0])
LIBRARY = {
    "retinanet": "retinanet/retinanet_r50_fpn_1x_coco.py",
    "fcos": "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py",
    "atss": "atss/atss_r50_fpn_1x_coco.py",
    "gfl": "gfl/gfl_r50_fpn_1x_coco.py",
    "rtmdet": "rtmdet/rtmdet_tiny_8xb32-300e_coco.py",
    "tood": "tood/tood_r50_fpn_1x_coco.py",
    "detr": "detr/detr_r50_8xb2-150e_coco.py",
    "sparse": "sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py",
    "faster": "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
}


@cache
def _library(name: str) -> dict:
    file = Path(get_installed_path("mmdet")) / ".mim" / "configs" / LIBRARY[name]
    return Config.fromfile(file).model.to_dict()


def narrow(cfg):
    """The library's model with 32 channels for 256, three classes and no pretrained weights."""
    if isinstance(cfg, dict):
        out = {k: narrow(v) for k, v in cfg.items() if k not in ("init_cfg", "pretrained")}
        return out | ({"num_classes": CLASSES} if "num_classes" in cfg else {})
    if isinstance(cfg, list | tuple):
        return type(cfg)(narrow(v) for v in cfg)
    # 128: half the width of DETR's positional encoding.
    return (
        {128: WIDTH // 2, 256: WIDTH, 1024: 40, 2048: 64}.get(cfg, cfg) if type(cfg) is int else cfg
    )


def config(name: str) -> dict:
    """Config of a small detector: ``'cascade'`` or one of the library's."""
    if name == "cascade":
        cfg = Config.fromfile(CONFIGS / "_base_" / "cascade-mask-rcnn_swin-micro_shapes.py").model
        cfg = cfg.to_dict()
        cfg["neck"].update(in_channels=[8, 16, 32, 64])
        cfg["backbone"] = dict(BACKBONE, out_indices=(0, 1, 2, 3))
    else:
        cfg = narrow(copy.deepcopy(_library(name)))
        channels = cfg["neck"]["in_channels"]
        levels = len(channels) if isinstance(channels, list | tuple) else 1
        cfg["neck"]["in_channels"] = [8, 16, 32, 64][-levels:]
        cfg["backbone"] = dict(BACKBONE, out_indices=tuple(range(4))[-levels:])
    cfg["data_preprocessor"] = dict(type="DetDataPreprocessor", pad_size_divisor=32, **NORM)
    return cfg


def build(cfg: dict, seed: int | None = 0) -> nn.Module:
    init_default_scope("mmdet")
    model = MODELS.build(ConfigDict(copy.deepcopy(cfg)))
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                scale = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1
                parameter.copy_(noise * scale)
    return model


def pruned(cfg: dict, name: str = "backbone.stages.0.blocks.0.ffn", width: int = 11) -> dict:
    cfg = dict(copy.deepcopy(cfg), type="rarts_mm.PrunedModel", of=cfg["type"])
    return dict(cfg, widths={name: width})


def wrapped(cfg: dict, student: dict | None = None, checkpoint: str = "", **options) -> dict:
    return dict(
        type="rarts_mm.DistilledDetector",
        student=student or pruned(cfg),
        teacher=cfg,
        teacher_checkpoint=checkpoint,
        **options,
    )


def batch(masks: bool = False) -> dict:
    generator = torch.Generator().manual_seed(4)
    inputs = torch.randn(2, 3, SIZE, SIZE, generator=generator)
    samples = []
    for i in range(2):
        boxes = torch.tensor([[4.0, 6, 30, 28], [20.0 + i, 22, 60, 50]])
        instances = InstanceData(bboxes=boxes, labels=torch.tensor([i, 2]))
        if masks:
            pixels = np.zeros((2, SIZE, SIZE), dtype=np.uint8)
            pixels[:, 10:30, 10:30] = 1
            instances.masks = BitmapMasks(pixels, SIZE, SIZE)
        shape = dict(img_shape=(SIZE, SIZE), ori_shape=(SIZE, SIZE), pad_shape=(SIZE, SIZE))
        sample = DetDataSample(
            metainfo=dict(shape, batch_input_shape=(SIZE, SIZE), scale_factor=(1.0, 1.0))
        )
        sample.gt_instances = instances
        sample.ignored_instances = InstanceData(
            bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long)
        )
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def losses_of(model: nn.Module, data: dict) -> dict:
    """Losses with the same draws of the samplers at every call."""
    torch.manual_seed(7)
    np.random.seed(7)
    return model(**copy.deepcopy(data), mode="loss")


def kl(student, teacher, temperature, sigmoid=False):
    """Written out on probabilities."""
    student, teacher = student.double() / temperature, teacher.double() / temperature
    if sigmoid:
        p, q = teacher.sigmoid(), student.sigmoid()
        each = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    else:
        p, q = teacher.softmax(1), student.softmax(1)
        each = p * (p / q).log()
    return each.sum(1).mean()


def expected_losses(student, teacher, data, temperature, weights) -> dict:
    """Losses of a plain student and the terms of distillation, from its own sampled regions."""
    of_logits, of_features = weights
    two_stage = hasattr(student, "roi_head")
    with torch.no_grad():
        theirs = teacher.extract_feat(data["inputs"])
    if two_stage:
        with recorded(student.roi_head, "bbox_loss") as calls:
            losses = losses_of(student, data)
    else:
        losses, calls = losses_of(student, data), []
    ours = student.extract_feat(data["inputs"])
    distances = [((a - b) ** 2).mean() for a, b in zip(ours, theirs, strict=True)]
    losses["loss_kd_feat"] = of_features * sum(distances) / len(distances)

    def scores(model, features, call, stage):
        head, rois = model.roi_head, bbox2roi([r.priors for r in call.args[-1]])
        extractor, box_head = head.bbox_roi_extractor, head.bbox_head
        if stage is not None:
            extractor, box_head = extractor[stage], box_head[stage]
        return box_head(extractor(features[: extractor.num_inputs], rois))[0]

    for call in calls:
        stage = call.args[0] if len(call.args) == 3 else None
        with torch.no_grad():
            targets = scores(teacher, theirs, call, stage)
        loss = of_logits * kl(scores(student, ours, call, stage), targets, temperature)
        if stage is None:
            losses["loss_kd_cls"] = loss
        else:
            losses[f"s{stage}.loss_kd_cls"] = loss * (1.0, 0.5, 0.25)[stage]
    if not two_stage:
        head = student.bbox_head
        with torch.no_grad():
            targets = teacher.bbox_head(theirs)[0]
        rows = [
            torch.cat(
                [
                    level.view(2, -1, head.cls_out_channels, *level.shape[2:])[n, a, :, y, x][None]
                    for level in levels
                    for n in range(2)
                    for a in range(level.shape[1] // head.cls_out_channels)
                    for y in range(level.shape[2])
                    for x in range(level.shape[3])
                ]
            )
            for levels in (head(ours)[0], targets)
        ]
        losses["loss_kd_cls"] = of_logits * kl(*rows, temperature, head.use_sigmoid_cls)
    return losses


def softmax_retina() -> dict:
    cfg = config("retinanet")
    cfg["bbox_head"]["loss_cls"] = dict(type="CrossEntropyLoss", use_sigmoid=False)
    cfg["train_cfg"]["sampler"] = dict(
        type="RandomSampler", num=16, pos_fraction=0.5, add_gt_as_proposals=False
    )
    return cfg


CASES = {name: lambda name=name: config(name) for name in (*LIBRARY, "cascade")}
CASES["softmax retinanet"] = softmax_retina


@pytest.mark.parametrize(
    "name",
    ["cascade", "faster", "retinanet", "softmax retinanet", "fcos", "atss", "gfl", "rtmdet"],
)
def test_losses_and_gradients(name, tmp_path):
    cfg = CASES[name]()
    teacher = build(cfg, seed=1)
    teacher.train(False)
    checkpoint = save(teacher, tmp_path / "teacher.pth")
    weights = dict(cls_weight=1.5, feature_weight=0.25)
    model = build(wrapped(cfg, checkpoint=checkpoint, temperature=2.0, **weights), seed=2)
    student = build(pruned(cfg), seed=2)
    for network in (model, student):
        # Norms with running statistics: the passes by hand would move them.
        network.train(False)
    data = batch(masks=name == "cascade")
    expected = expected_losses(student, teacher, data, 2.0, (1.5, 0.25))
    found = losses_of(model, data)
    assert found.keys() == expected.keys()
    total, logged = model.parse_losses(found)
    by_hand, logged_by_hand = student.parse_losses(expected)
    for key, value in logged.items():
        torch.testing.assert_close(
            value.double(), logged_by_hand[key].double(), rtol=1e-4, atol=1e-7, msg=key
        )
    kd = [v for k, v in logged.items() if "kd" in k]
    assert len(kd) == (4 if name == "cascade" else 2)
    assert min(kd) > 1e-5
    found, expected = gradients(model, total), gradients(student, by_hand)
    assert found.keys() == expected.keys()
    for key, gradient in found.items():
        scale = expected[key].abs().max() + 1e-3
        assert ((gradient - expected[key]).abs().max() / scale).item() < 2e-3, key
    assert [*model.state_dict()] == [*student.state_dict()]
    assert "_bbox_forward" not in vars(getattr(model, "roi_head", model))
    assert "extract_feat" not in vars(model)


def distilled(name_or_cfg, tmp_path, seed=2, **options):
    cfg = config(name_or_cfg) if isinstance(name_or_cfg, str) else name_or_cfg
    checkpoint = save(build(cfg, seed=1), tmp_path / "teacher.pth")
    return build(wrapped(cfg, checkpoint=checkpoint, **options), seed)


@pytest.mark.parametrize("name", ["faster", "fcos"])
def test_a_student_that_is_its_teacher_learns_nothing_from_it(name, tmp_path):
    cfg = config(name)
    model = distilled(cfg, tmp_path, seed=1, student=cfg, task_weight=0.0)
    total, logged = model.parse_losses(losses_of(model.eval(), batch()))
    assert logged["loss_kd_cls"].abs() < 1e-7
    assert logged["loss_kd_feat"] == 0
    assert max(g.abs().max() for g in gradients(model, total).values()) < 1e-6


def test_one_pass_of_each_and_no_graph_of_the_teachers(tmp_path):
    model = distilled("faster", tmp_path)
    teacher = model.distillation.teacher
    passes = []
    for name, network in (("student", model), ("teacher", teacher)):
        network.backbone.register_forward_hook(
            lambda *_, name=name: passes.append((name, torch.is_grad_enabled()))
        )
        network.roi_head.bbox_head.register_forward_hook(
            lambda *_, name=name: passes.append((f"{name} head", torch.is_grad_enabled()))
        )
    losses_of(model, batch())
    assert passes == [
        ("teacher", False),
        ("student", True),
        ("student head", True),
        ("teacher head", False),
    ]


def test_features_alone_where_logits_have_no_partner(tmp_path):
    cfg = config("detr")
    model = distilled(cfg, tmp_path, cls_weight=0.0)
    losses = losses_of(model.eval(), batch())
    teacher = build(cfg, seed=1).eval()
    with torch.no_grad():
        pairs = zip(*(m.extract_feat(batch()["inputs"]) for m in (model, teacher)), strict=True)
        expected = sum(F.mse_loss(a, b) for a, b in pairs)
    assert "loss_kd_cls" not in losses
    torch.testing.assert_close(losses["loss_kd_feat"], expected, rtol=1e-5, atol=0)


def test_logits_alone_where_features_differ(tmp_path):
    cfg = config("retinanet")
    narrower = copy.deepcopy(cfg)
    narrower["neck"]["out_channels"] = narrower["bbox_head"]["in_channels"] = 16
    with pytest.raises(
        ValueError, match=r"features of 32 channels, the student's FPN of 16.*feature_weight=0"
    ):
        distilled(cfg, tmp_path, student=narrower)
    losses = losses_of(distilled(cfg, tmp_path, student=narrower, feature_weight=0.0), batch())
    assert "loss_kd_feat" not in losses
    assert losses["loss_kd_cls"] > 0


@pytest.mark.parametrize(
    ("teacher", "student", "words"),
    [
        ("tood", "tood", ["TOODHead gives probabilities", "cls_weight=0"]),
        ("detr", "detr", ["queries", "cls_weight=0"]),
        ("sparse", "sparse", ["SparseRoIHead scores regions by more", "cls_weight=0"]),
        ("faster", "retinanet", ["not both two-stage", "cls_weight=0"]),
        ("faster", "cascade", ["StandardRoIHead has 1 stages", "CascadeRoIHead 3"]),
        ("softmax retinanet", "retinanet", ["use_sigmoid False", "True"]),
        ("atss", "retinanet", ["anchors a place 1", "9"]),
    ],
)
def test_what_does_not_fit_is_refused(teacher, student, words, tmp_path):
    with pytest.raises(ValueError, match=words[0]) as error:
        distilled(CASES[teacher](), tmp_path, student=CASES[student]())
    for word in words[1:]:
        assert word in str(error.value)


def test_another_number_of_classes_is_refused(tmp_path):
    for name in ("faster", "fcos"):
        cfg = config(name)
        other = copy.deepcopy(cfg)
        head = other["roi_head"]["bbox_head"] if name == "faster" else other["bbox_head"]
        head["num_classes"] = 5
        with pytest.raises(ValueError, match=r"has classes 3, the student's .* 5"):
            distilled(cfg, tmp_path, student=other)


def test_a_classifier_is_no_teacher_of_a_detector(tmp_path):
    cfg = config("fcos")
    classifier = dict(
        type="mmpretrain.ImageClassifier",
        backbone=dict(type="mmpretrain.ResNet", depth=18),
        data_preprocessor=dict(**NORM),
        _scope_="mmpretrain",
    )
    checkpoint = save(build(classifier), tmp_path / "teacher.pth")
    with pytest.raises(ValueError, match="teacher is a ImageClassifier, no detector"):
        build(dict(wrapped(cfg, checkpoint=checkpoint), teacher=classifier))


def resnet() -> dict:
    cfg = config("retinanet")
    cfg["backbone"] = dict(
        type="ResNet", depth=18, base_channels=8, norm_cfg=dict(type="BN"), frozen_stages=1
    )
    cfg["neck"]["in_channels"] = [8, 16, 32, 64]
    return cfg


def test_activation_checkpointing_of_a_sliced_resnet(tmp_path):
    found = []
    cfg = resnet()
    name = "backbone.layer2.0.conv1"
    for with_cp in (False, True):
        student = pruned(cfg, name, 5)
        student["backbone"]["with_cp"] = with_cp
        model = distilled(cfg, tmp_path, student=student)
        model.train()
        total, _ = model.parse_losses(losses_of(model, batch()))
        found.append((gradients(model, total), total))
    (expected, loss), (checkpointed, same) = found
    assert torch.equal(loss, same)
    assert expected.keys() == checkpointed.keys()
    for key, gradient in checkpointed.items():
        torch.testing.assert_close(gradient, expected[key], rtol=1e-5, atol=1e-7, msg=key)


def test_mixed_precision(tmp_path):
    # Of one stage, as mmcv's nms of proposals does not take bfloat16 on a CPU.
    model = distilled("rtmdet", tmp_path)
    exact = losses_of(model, batch())
    with torch.autocast("cpu", torch.bfloat16):
        losses = losses_of(model, batch())
    total, _ = model.parse_losses(losses)
    for key in ("loss_kd_cls", "loss_kd_feat"):
        assert losses[key].dtype == torch.float32
        assert losses[key].item() == pytest.approx(exact[key].item(), rel=0.1)
    assert all(g.isfinite().all() for g in gradients(model, total).values())


@pytest.fixture
def process_group():
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("name", ["faster", "retinanet"])
def test_a_step_of_distributed_training(name, tmp_path, process_group):
    optimiser = dict(optimizer=dict(type="SGD", lr=0.01))
    alone, parallel = (distilled(name, tmp_path) for _ in range(2))
    steps = []
    for model in (alone, MMDistributedDataParallel(parallel)):
        torch.manual_seed(7)
        np.random.seed(7)
        data = batch()
        # As the loader gives it: a list of images, which the preprocessor stacks.
        data["inputs"] = [image.mul(60).add(125).byte() for image in data["inputs"]]
        steps.append(model.train_step(data, build_optim_wrapper(model, copy.deepcopy(optimiser))))
    assert {"loss_kd_cls", "loss_kd_feat"} < steps[0].keys()
    assert steps[0] == steps[1]
    start = distilled(name, tmp_path).state_dict()
    changed = 0
    for key, value in alone.state_dict().items():
        assert torch.equal(value, parallel.state_dict()[key]), key
        changed += not torch.equal(value, start[key])
    assert changed > 20
