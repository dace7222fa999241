"""Models to count: small ones, and the two full-size ones whose published numbers are known."""

from pathlib import Path

import pytest
import torch
from mmdet.models.backbones.swin import SwinTransformer
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

from rarts_mm.registry import MODELS
from rarts_mm.widths import find_units, insert_scores, rank_scores, slice_network

BASES = Path(__file__).parents[2] / "configs" / "_base_"


def build(name: str, scope: str) -> nn.Module:
    cfg = Config.fromfile(BASES / f"{name}.py")
    model = cfg.model
    model.backbone.init_cfg = None
    if cfg.get("data_preprocessor") is not None:
        model.data_preprocessor = model.get("data_preprocessor") or cfg.data_preprocessor
    with DefaultScope.overwrite_default_scope(scope):
        return MODELS.build(model)


@pytest.fixture(scope="session")
def classifier() -> nn.Module:
    """Swin-T with 100 classes; do not change it."""
    return build("swin-t_cifar100", "mmpretrain")


@pytest.fixture(scope="session")
def detector() -> nn.Module:
    """Cascade Mask R-CNN with Swin-T, the release's; do not change it."""
    return build("cascade-mask-rcnn_swin-t_4conv1f_coco", "mmdet")


@pytest.fixture
def small_detector() -> nn.Module:
    return build("cascade-mask-rcnn_swin-micro_shapes", "mmdet")


@pytest.fixture
def swin():
    """MMDetection's backbone with 12 x 12 and 6 x 6 tokens at 48 x 48, windows of 3."""

    def make() -> nn.Module:
        return SwinTransformer(
            embed_dims=16,
            depths=(2, 2),
            num_heads=(2, 4),
            strides=(4, 2),
            window_size=3,
            out_indices=(0, 1),
        )

    return make


@pytest.fixture
def prune_evenly():
    """Prune a network in place by the same share in every layer; return the units it had."""

    def prune(network: nn.Module, ratio: float) -> list:
        alphas = insert_scores(network)
        units, _ = find_units(network)
        with torch.no_grad():
            for alpha in alphas.values():
                alpha.fill_(-0.5)
        # Equal scores prune evenly.
        slice_network(network, rank_scores(alphas, ratio))
        return units

    return prune
