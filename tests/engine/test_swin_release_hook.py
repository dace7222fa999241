"""Files of the Swin release through the Runner: ``load_from``, then training on the CPU."""

import copy
import json
from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine import Config
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import nn

CONFIGS = Path(__file__).parents[2] / "configs/_base_"


def small_detector_config() -> Config:
    """The full-size config with a small network: the same modules, hooks and loading."""
    cfg = Config.fromfile(CONFIGS / "cascade-mask-rcnn_swin-t_4conv1f_coco.py")
    cfg.model.backbone.update(
        embed_dims=8, depths=[1, 2, 1, 1], num_heads=[1, 2, 2, 4], window_size=3, init_cfg=None
    )
    cfg.model.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
    cfg.model.rpn_head.update(in_channels=16, feat_channels=16)
    head = cfg.model.roi_head
    for extractor in (head.bbox_roi_extractor, head.mask_roi_extractor):
        extractor.out_channels = 16
    for bbox_head in head.bbox_head:
        bbox_head.update(in_channels=16, conv_out_channels=16, fc_out_channels=32)
    head.mask_head.update(in_channels=16, conv_out_channels=16)
    for stage in cfg.model.train_cfg.rcnn:
        stage.sampler.num = 16
    return cfg


def released(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """An MMDetection detector's state dict under the names and in the order of the release."""
    renames = [
        ("backbone.stages.", "backbone.layers."),
        (".attn.w_msa.", ".attn."),
        (".ffn.layers.0.0.", ".mlp.fc1."),
        (".ffn.layers.1.", ".mlp.fc2."),
        ("patch_embed.projection.", "patch_embed.proj."),
    ]
    state = {}
    for key, value in state_dict.items():
        if "downsample" in key:
            # Unfold's channels are (channel, row, column), the original's (column, row, channel).
            cells = value.unflatten(-1, (-1, 2, 2))
            value = cells.transpose(-3, -1).flatten(-3)
        for new, old in renames:
            key = key.replace(new, old)
        state[key] = value
    return state


@pytest.fixture(scope="module")
def detector():
    init_default_scope("mmdet")
    torch.manual_seed(3)
    model = MODELS.build(small_detector_config().model)
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0.05, 0.05)
    return model


@pytest.fixture
def images(tmp_path) -> Path:
    generator = np.random.default_rng(0)
    images, annotations = [], []
    for i in (1, 2):
        mmcv.imwrite(
            generator.integers(0, 255, (96, 128, 3), dtype=np.uint8), str(tmp_path / f"img/{i}.png")
        )
        images.append(dict(id=i, file_name=f"{i}.png", height=96, width=128))
        annotations.append(
            dict(
                id=i,
                image_id=i,
                category_id=1,
                bbox=[16, 16, 64, 48],
                area=64 * 48,
                iscrowd=0,
                segmentation=[[16, 16, 80, 16, 80, 64, 16, 64]],
            )
        )
    content = dict(images=images, annotations=annotations, categories=[dict(id=1, name="person")])
    (tmp_path / "train.json").write_text(json.dumps(content))
    return tmp_path


class Witness(Hook):
    """Keeps the weights as they are when training begins."""

    def before_train(self, runner) -> None:
        self.state = copy.deepcopy(runner.model.state_dict())


def make_runner(cfg: Config, images: Path, checkpoint: dict) -> Runner:
    torch.save(checkpoint, images / "released.pth")
    cfg.load_from = str(images / "released.pth")
    cfg.work_dir = str(images / "work")
    loader = cfg.train_dataloader
    loader.dataset.update(
        data_root=str(images), ann_file="train.json", data_prefix=dict(img="img/")
    )
    loader.dataset.pipeline[3:4] = [dict(type="Resize", scale=(128, 96))]
    loader.update(num_workers=0, persistent_workers=False)
    cfg.train_cfg = dict(by_epoch=True, max_epochs=1)
    for key in ("val_cfg", "val_dataloader", "val_evaluator"):
        cfg[key] = cfg[key.replace("val", "test", 1)] = None
    cfg.experiment_name = images.name
    return Runner.from_cfg(cfg)


def test_training_starts_from_a_released_detector(detector, images):
    reference = detector.state_dict()
    checkpoint = {"state_dict": released(reference), "meta": {}}
    runner = make_runner(small_detector_config(), images, checkpoint)
    witness = Witness()
    runner.register_hook(witness)
    runner.train()
    state = witness.state
    assert state.keys() == reference.keys()
    for key, value in reference.items():
        assert torch.equal(state[key], value), key
    # One process, no GPU: the Runner made plain batch norms of SyncBN, and a step was possible.
    norms = [layer.bn for head in runner.model.roi_head.bbox_head for layer in head.shared_convs]
    assert len(norms) == 12
    assert not any(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
    assert all(norm.num_batches_tracked == 1 for norm in norms)
    after = runner.model.state_dict()
    key = "backbone.stages.0.blocks.0.attn.w_msa.qkv.weight"
    assert not torch.equal(after[key], reference[key])


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [lambda state: {"model": state}, dict])
def test_backbones_are_found_wherever_a_file_keeps_them(detector, images, wrap):
    """Classifiers are released under 'model', and files made by others are often a bare dict."""
    backbone = {
        key.removeprefix("backbone."): value
        for key, value in released(detector.state_dict()).items()
        if key.startswith("backbone.")
    }
    runner = make_runner(small_detector_config(), images, wrap(backbone))
    runner.load_or_resume()
    state = runner.model.state_dict()
    for key, value in detector.backbone.state_dict().items():
        assert torch.equal(state[f"backbone.{key}"], value), key


def test_a_checkpoint_with_mmdetections_names_passes_unchanged(detector, images):
    checkpoint = {"state_dict": detector.state_dict()}
    runner = make_runner(small_detector_config(), images, checkpoint)
    runner.load_or_resume()
    state = runner.model.state_dict()
    for key, value in detector.state_dict().items():
        assert torch.equal(state[key], value), key
