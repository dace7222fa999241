"""Small networks with random weights, where every slip shows."""

import pytest
import torch
from mmdet.models.backbones.swin import SwinTransformer as DetectionSwin
from mmpretrain.models import ImageClassifier
from torch import nn

from rarts_mm.widths import insert_scores


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def _randomise(network: nn.Module, seed: int = 0) -> nn.Module:
    """Random parameters, none of them zero: biases, norms and bias tables too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
            if parameter.ndim > 1 and "table" not in name:
                parameter.div_(parameter[0].numel() ** 0.5)
    network.double()
    network.eval()
    return network


@pytest.fixture
def randomise():
    return _randomise


@pytest.fixture
def detection_swin():
    """MMDetection's backbone: windows of 3, shifted in every other block, padded."""

    def build(**kwargs):
        settings = {
            "embed_dims": 16,
            "depths": (2, 2),
            "num_heads": (2, 4),
            "strides": (4, 2),
            "window_size": 3,
            "out_indices": (0, 1),
            "drop_path_rate": 0.0,
        }
        return _randomise(DetectionSwin(**settings | kwargs))

    return build


def classifier_config(**backbone) -> dict:
    settings = {
        "type": "SwinTransformer",
        "arch": {"embed_dims": 16, "depths": [2, 2], "num_heads": [2, 4]},
        "img_size": 32,
        "window_size": 3,
        "out_indices": (1,),
        "drop_path_rate": 0.0,
    }
    return {
        "backbone": settings | backbone,
        "neck": {"type": "GlobalAveragePooling"},
        "head": {
            "type": "LinearClsHead",
            "num_classes": 5,
            "in_channels": 32,
            "loss": {"type": "CrossEntropyLoss"},
        },
    }


@pytest.fixture
def classifier():
    """MMPretrain's classifier with its own Swin."""

    def build(**backbone):
        return _randomise(ImageClassifier(**classifier_config(**backbone)))

    return build


@pytest.fixture
def score():
    """Insert random scores, about half of them negative, none zero."""

    def insert(network, seed=1, **kwargs):
        alphas = insert_scores(network, **kwargs)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for alpha in alphas.values():
                alpha.copy_(torch.randn(alpha.shape, generator=generator))
        return alphas

    return insert
