"""The digits' convolutional networks: what they train and what their searches score."""

import pytest
import torch
from mmengine import Config
from mmengine.registry import init_default_scope

from rarts_mm.analysis import count_flops
from rarts_mm.apis.configs import plain_config, read_config
from rarts_mm.apis.input_size import input_size
from rarts_mm.registry import MODELS
from rarts_mm.widths import find_units
from tests.conftest import CONFIGS

SPLITS = ("train", "val", "test")


def built(name: str):
    cfg = read_config(CONFIGS / f"{name}.py")
    init_default_scope(cfg.default_scope)
    model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    return cfg, model


@pytest.mark.parametrize(
    ("name", "size", "channels", "parameters"),
    [("preresnet20", 8, 1, 56_162), ("mobilenet-v2", 32, 3, 98_890)],
)
def test_the_network_takes_what_the_pipeline_gives(name, size, channels, parameters):
    cfg, model = built(f"rarts_{name}_digits")
    network = model.kept
    assert input_size(cfg) == (size, size)
    for split in SPLITS:
        dataset = cfg[f"{split}_dataloader"].dataset
        assert dataset.data_prefix == split
        load, resize, _ = dataset.pipeline
        assert load.color_type == ("grayscale" if channels == 1 else "color")
        assert resize.scale == (size, size)
    assert len(cfg.data_preprocessor.mean) == len(cfg.data_preprocessor.std) == channels
    images = torch.randint(256, (3, channels, size, size)).float()
    assert network.eval()(images).shape == (3, 10)
    # Scores are no parameters of the network.
    assert count_flops(network, (size, size)).total_parameters == parameters


@pytest.mark.parametrize(
    ("name", "sizes", "missing"),
    [
        # Two inner widths in each of six blocks, what their first norms read, and the last norm.
        (
            "preresnet20",
            [8, 8, 8, 32, 8, 8, 32, 16, 16, 64, 16, 16, 64, 32, 32, 128, 32, 32, 128],
            [],
        ),
        # Six times a block's input: 8 channels, from the second block of the fifth stage on 16.
        ("mobilenet-v2", [48] * 10 + [96] * 6, ["backbone.layer1.0"]),
    ],
)
def test_the_search_scores_every_block(name, sizes, missing):
    cfg, model = built(f"rarts_{name}_digits")
    units, left_out = find_units(model.kept)
    assert [out.name for out in left_out] == missing
    assert sorted(unit.size for unit in units) == sorted(sizes)
    assert cfg.optim_wrapper.alternation.type == "RARTS"
    assert "optim_wrapper" not in cfg.finetune
    tuning = plain_config(cfg, "finetune")
    assert tuning.optim_wrapper == cfg.optim_wrapper.weights
    assert tuning.param_scheduler[0].end == tuning.train_cfg.max_epochs == 10


def test_the_digits_are_the_same_data_for_all_networks():
    swin, other = (
        Config.fromfile(CONFIGS / "_base_" / f"{name}_digits.py")
        for name in ("swin-micro", "preresnet20")
    )
    swin, other = (cfg._cfg_dict.to_dict() for cfg in (swin, other))
    for cfg in (swin, other):
        del cfg["model"]
        for key in ("embed_dims", "base_channels"):
            cfg.pop(key, None)
    assert swin == other
