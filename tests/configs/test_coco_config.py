"""The full-size Cascade Mask R-CNN with Swin-T: size, heads, optimiser, schedule, data."""

import copy
import json
from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, init_default_scope
from mmengine.runner import Runner
from torch import nn

CONFIG = Path(__file__).parents[2] / "configs/_base_/cascade-mask-rcnn_swin-t_4conv1f_coco.py"


@pytest.fixture
def cfg():
    cfg = Config.fromfile(CONFIG)
    init_default_scope("mmdet")
    return cfg


@pytest.fixture(scope="module")
def detector():
    init_default_scope("mmdet")
    return MODELS.build(Config.fromfile(CONFIG).model)


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_size_is_the_releases(detector):
    assert parameters(detector) == 85_629_804
    assert parameters(detector.backbone) == 27_520_698


def test_heads_are_the_releases(detector):
    stds = []
    for head in detector.roi_head.bbox_head:
        assert [layer.conv.out_channels for layer in head.shared_convs] == [256] * 4
        assert [layer.out_features for layer in head.shared_fcs] == [1024]
        assert all(isinstance(layer.bn, nn.SyncBatchNorm) for layer in head.shared_convs)
        assert head.fc_reg.out_features == 4 * 80, "boxes are regressed per class"
        assert head.reg_decoded_bbox
        assert (type(head.loss_bbox).__name__, head.loss_bbox.loss_weight) == ("GIoULoss", 10.0)
        stds.append(tuple(head.bbox_coder.stds))
    assert stds == [(0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067)]


def test_drop_path_rises_to_its_rate(detector):
    rates = [
        block.attn.drop.drop_prob for stage in detector.backbone.stages for block in stage.blocks
    ]
    np.testing.assert_allclose(rates, np.linspace(0, 0.2, 12), atol=1e-7)


def test_norms_and_bias_tables_do_not_decay(cfg, detector):
    optimizer = build_optim_wrapper(detector, cfg.optim_wrapper).optimizer
    assert isinstance(optimizer, torch.optim.AdamW)
    names = {parameter: name for name, parameter in detector.named_parameters()}
    decays = {}
    for group in optimizer.param_groups:
        assert (group["lr"], tuple(group["betas"])) == (1e-4, (0.9, 0.999))
        decays |= dict.fromkeys((names[parameter] for parameter in group["params"]), group)
    assert len(decays) == len(names)
    free = {name for name, group in decays.items() if group["weight_decay"] == 0}
    assert free == {name for name in decays if "norm" in name or "bias_table" in name}
    assert {group["weight_decay"] for group in decays.values()} == {0, 0.05}
    # 12 blocks with two norms and one table, 3 mergings, 4 outputs, the patch embedding.
    assert len(free) == 12 * (4 + 1) + 2 * (3 + 4 + 1)


def test_learning_rate_warms_up_and_steps_down(cfg):
    def rates(schedule, steps):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1e-4)
        scheduler = PARAM_SCHEDULERS.build(dict(schedule, optimizer=optimizer))
        values = []
        for _ in range(steps):
            values.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        return values

    warm_up, steps = cfg.param_scheduler
    assert not warm_up.by_epoch
    assert steps.by_epoch
    warm_up = rates(warm_up, 502)
    assert warm_up[0] == pytest.approx(1e-7)
    assert warm_up[498] < warm_up[500] == warm_up[501] == pytest.approx(1e-4)
    assert rates(steps, cfg.train_cfg.max_epochs) == pytest.approx(
        [1e-4] * 27 + [1e-5] * 6 + [1e-6] * 3
    )


def write_coco(root: Path, sizes) -> Path:
    """A data set in COCO's layout: images of ``sizes`` (h, w), two objects in all but the last."""
    generator = np.random.default_rng(0)
    for split in ("train2017", "val2017"):
        images, annotations = [], []
        for i, (height, width) in enumerate(sizes, start=1):
            pixels = generator.integers(0, 255, (height, width, 3), dtype=np.uint8)
            mmcv.imwrite(pixels, str(root / split / f"{i:012d}.jpg"))
            images.append(dict(id=i, file_name=f"{i:012d}.jpg", height=height, width=width))
            for j in range(2 if i < len(sizes) else 0):
                x, y, w, h = width * 0.1 + 40 * j, height * 0.2, width * 0.5, height * 0.5
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=i,
                        category_id=[1, 90][j],
                        bbox=[x, y, w, h],
                        area=w * h,
                        iscrowd=0,
                        segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]],
                    )
                )
        path = root / "annotations" / f"instances_{split}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            json.dumps(
                dict(
                    images=images,
                    annotations=annotations,
                    categories=[dict(id=1, name="person"), dict(id=90, name="toothbrush")],
                )
            )
        )
    return root


def local(dataloader, root: Path):
    """The config's loader on the data set at ``root``, in this process."""
    dataloader = copy.deepcopy(dataloader)
    dataloader.dataset.data_root = f"{root}/"
    dataloader.update(num_workers=0, persistent_workers=False)
    return Runner.build_dataloader(dataloader, seed=0)


def test_training_batches_are_multi_scale(cfg, tmp_path):
    sizes = [(300, 400), (640, 480), (426, 640), (500, 400), (500, 500)]
    loader = local(cfg.train_dataloader, write_coco(tmp_path, sizes))
    assert len(loader.dataset) == 4, "images without a box are left out"
    short_sides, cropped = set(), False
    for _ in range(4):
        for batch in loader:
            assert len(batch["inputs"]) == 2
            portrait = set()
            for image, sample in zip(batch["inputs"], batch["data_samples"], strict=True):
                height, width = image.shape[1:]
                assert image.shape[0] == 3
                assert max(height, width) <= 1333
                shorter = min(height, width)
                short_sides.add(shorter)
                portrait.add(sample.ori_shape[0] > sample.ori_shape[1])
                ratio = (height / width) / (sample.ori_shape[0] / sample.ori_shape[1])
                cropped |= not 0.98 < ratio < 1.02
                instances = sample.gt_instances
                boxes = instances.bboxes.tensor
                assert boxes.min() >= 0
                assert (boxes[:, 2::2] <= width).all()
                assert instances.masks.height == height
                assert instances.masks.width == width
                assert len(instances.labels) == len(instances.masks) == len(boxes)
            assert len(portrait) == 1, "images of a batch share their orientation"
    scales = set(range(480, 801, 32))
    # Where the long side reaches 1333 first (extreme crops) the short side is below its scale.
    assert len(short_sides & scales) >= 4
    assert all(side <= 800 for side in short_sides)
    assert cropped, "half of the images go through the crop"


def test_validation_batches_and_metric(cfg, tmp_path):
    root = write_coco(tmp_path, [(300, 400), (640, 480)])
    loader = local(cfg.val_dataloader, root)
    first, second = loader
    assert first["inputs"][0].shape[1:] == (800, 1067)
    assert second["inputs"][0].shape[1:] == (1067, 800)
    sample = first["data_samples"][0]
    np.testing.assert_allclose(sample.scale_factor, (1067 / 400, 800 / 300))
    assert cfg.val_evaluator.metric == ["bbox", "segm"]
    assert cfg.test_dataloader == cfg.val_dataloader


def test_says_how_to_get_what_it_reads(cfg):
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        dataset = loader.dataset
        for path in (dataset.ann_file, dataset.data_prefix.img):
            where = f"{dataset.data_root}{path}".rstrip("/")
            assert "images.cocodataset.org" in cfg.how_to_get[where]
