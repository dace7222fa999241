"""The size that FLOPs are counted at is the one that the network sees in testing."""

import json

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from rarts_mm.apis import UsageError, read_config
from rarts_mm.apis.config_files import config_text
from rarts_mm.apis.configs import prepare_registries
from rarts_mm.apis.input_size import input_size, searched_size
from tests.conftest import run_tool

LOAD = dict(type="LoadImageFromFile")
DET = [dict(type="mmdet.PackDetInputs", meta_keys=("img_shape",))]
CLS = [dict(type="mmpretrain.PackInputs")]


def config(*transforms, pack=CLS, scope="mmpretrain", preprocessor=None, **dataset):
    dataset = {"type": "CustomDataset", "data_root": "nowhere", **dataset}
    dataset["pipeline"] = [LOAD, *transforms, *pack]
    return Config(
        dict(
            default_scope=scope,
            model=dict(type="X", data_preprocessor=preprocessor),
            test_dataloader=dict(dataset=dataset),
        )
    )


@pytest.mark.parametrize(
    ("transforms", "size"),
    [
        ([dict(type="Resize", scale=(48, 32))], (32, 48)),
        ([dict(type="ResizeEdge", scale=64, edge="short")], (64, 64)),
        ([dict(type="ResizeEdge", scale=64), dict(type="CenterCrop", crop_size=(40, 56))], (56, 40)),
        ([dict(type="mmdet.FixShapeResize", width=48, height=32, keep_ratio=False)], (32, 48)),
        ([dict(type="mmdet.FixShapeResize", width=48, height=32, keep_ratio=True)], (32, 48)),
        ([dict(type="mmdet.FixScaleResize", scale=(800, 1333), keep_ratio=True)], (800, 1280)),
        ([dict(type="mmdet.Resize", scale=(1333, 800), keep_ratio=True)], (800, 1280)),
        ([dict(type="mmdet.Resize", scale=(1333, 800), keep_ratio=False)], (800, 1333)),
        ([dict(type="Resize", scale=30), dict(type="mmdet.Pad", size_divisor=32)], (32, 32)),
        ([dict(type="Resize", scale=30), dict(type="mmdet.Pad", size=(80, 60))], (60, 80)),
        (
            [
                dict(
                    type="RandomChoice",
                    transforms=[[dict(type="Resize", scale=(60, 20))], [dict(type="Resize", scale=(60, 20))]],
                )
            ],
            (20, 60),
        ),
        ([dict(type="RandomApply", transforms=[dict(type="Resize", scale=24)], prob=1.0)], (24, 24)),
        ([dict(type="torchvision/Resize", size=(20, 36))], (20, 36)),
    ],
)  # fmt: skip
def test_every_kind_of_transform_is_run(transforms, size):
    if transforms[0]["type"].startswith("torchvision/"):
        transforms = [dict(type="NumpyToPIL"), *transforms, dict(type="PILToNumpy")]
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    assert input_size(config(*transforms)) == size
    # Whoever draws random numbers next gets what they would have got.
    assert (np.random.get_state()[1] == before[0]).all()
    assert torch.equal(torch.get_rng_state(), before[1])


def test_what_the_preprocessor_pads_the_network_sees():
    resize = dict(type="mmdet.Resize", scale=(50, 30), keep_ratio=True)
    padded = dict(type="mmdet.DetDataPreprocessor", pad_size_divisor=32)
    cfg = config(resize, pack=DET, scope="mmdet", type="mmdet.CocoDataset", preprocessor=padded)
    assert input_size(cfg) == (32, 64)
    # Inside a search's architecture, and at the top level of a classifier's config.
    cfg.model = dict(type="rarts_mm.SearchModel", architecture=cfg.model)
    assert input_size(cfg) == (32, 64)
    cfg = config(dict(type="Resize", scale=(50, 30)))
    cfg.data_preprocessor = dict(type="ClsDataPreprocessor", pad_size_divisor=16)
    assert input_size(cfg) == (32, 64)


def test_wrapped_data_and_other_loaders_count():
    leaf = config(dict(type="Resize", scale=(48, 32))).test_dataloader.dataset
    for wrapped in (
        dict(type="RepeatDataset", times=2, dataset=leaf),
        dict(type="ConcatDataset", datasets=[leaf, leaf]),
        dict(type="RepeatDataset", times=2, dataset=dict(type="ConcatDataset", datasets=[leaf])),
    ):
        for phase in ("test", "val", "train"):
            cfg = Config(dict(default_scope="mmpretrain", model=dict(type="X")))
            cfg[f"{phase}_dataloader"] = dict(dataset=wrapped)
            assert input_size(cfg) == (32, 48), (phase, wrapped["type"])


def test_training_sizes_that_vary_are_none():
    def size(*transforms):
        cfg = config(*transforms)
        cfg.train_dataloader = cfg.pop("test_dataloader")
        return searched_size(cfg)

    assert size(dict(type="RandomResizedCrop", scale=24), dict(type="RandomFlip", prob=0.5)) == (
        24,
        24,
    )
    assert size(dict(type="RandomResize", scale=[(64, 32), (64, 48)], keep_ratio=True)) is None
    assert size(dict(type="RandomChoiceResize", scales=[(32, 32), (48, 48)])) is None
    assert size() is None
    assert size(dict(type="mmdet.Resize", scale=(48, 32), keep_ratio=True)) == (32, 48)


def test_arrays_and_files_without_a_resize(tmp_path):
    # Its images are arrays of 32 x 32, whether they have been fetched or not.
    cifar = config(type="CIFAR10", data_root=str(tmp_path / "none"))
    cifar.test_dataloader.dataset.pipeline = CLS
    assert input_size(cifar) == (32, 32)
    assert not (tmp_path / "none").exists()

    folder = tmp_path / "images"
    (folder / "a").mkdir(parents=True)
    cv2.imwrite(str(folder / "a" / "1.png"), np.zeros((20, 28, 3), np.uint8))
    assert input_size(config(data_root=str(folder))) == (20, 28)
    scaled = config(dict(type="Resize", scale_factor=0.5), data_root=str(folder))
    assert input_size(scaled) == (10, 14)


@pytest.mark.parametrize("loader", ["none", "no resize", "unknown transform"])
def test_where_nothing_says_the_size_it_is_asked_for(loader):
    cfg = config(*[dict(type="NoSuchThing")] * (loader == "unknown transform"))
    if loader == "none":
        cfg.pop("test_dataloader")
    with pytest.raises(UsageError, match="--input-size HEIGHT WIDTH"):
        input_size(cfg)


BASE = """
default_scope = "mmpretrain"
from mmcv.transforms import LoadImageFromFile
from mmpretrain.datasets import CustomDataset, PackInputs
from mmcv.transforms import Resize

test_dataloader = dict(dataset=dict(type=CustomDataset, data_root="nowhere", pipeline=[
    dict(type=LoadImageFromFile), dict(type=Resize, scale=(48, 32)), dict(type=PackInputs),
]))
"""
PURE = """
from mmengine.config import read_base
with read_base():
    from .base import *
from mmengine.optim import OptimWrapper
from mmpretrain.models import GlobalAveragePooling, ImageClassifier, LinearClsHead
from torch.optim import SGD
from rarts_mm.engine import RARTSOptimWrapper, RARTSOptimWrapperConstructor, SearchLoop
from rarts_mm.models import PreResNet, SearchModel

model = dict(type=SearchModel, architecture=dict(
    type=ImageClassifier,
    backbone=dict(type=PreResNet, depth=20, base_channels=8),
    neck=dict(type=GlobalAveragePooling),
    head=dict(type=LinearClsHead, num_classes=3, in_channels=128),
))
optim_wrapper = dict(
    type=RARTSOptimWrapper,
    constructor=RARTSOptimWrapperConstructor,
    weights=dict(type=OptimWrapper, optimizer=dict(type=SGD, lr=0.1)),
)
train_cfg = dict(type=SearchLoop, max_epochs=1)
"""


@pytest.mark.slow
def test_both_copies_of_a_config_cut_the_same_network(tmp_path):
    (tmp_path / "base.py").write_text(BASE)
    pure, dumped = tmp_path / "pure.py", tmp_path / "dumped.py"
    pure.write_text(PURE)
    cfg = read_config(pure)
    dumped.write_text(config_text(cfg))
    prepare_registries(cfg)
    torch.manual_seed(0)
    checkpoint = tmp_path / "plain.pth"
    torch.save(dict(state_dict=MODELS.build(cfg.model.architecture).state_dict()), checkpoint)
    arguments = ["--criterion", "magnitude", "--flops", "0.7"]
    found = []
    for path in (pure, dumped):
        out = tmp_path / path.stem
        status, _, err = run_tool("prune", path, checkpoint, *arguments, "--out", out)
        assert status == 0, err
        found.append(json.loads((out / "widths.json").read_text()))
    assert found[0]["costs"] == found[1]["costs"]
    assert found[0]["units"] == found[1]["units"]
    asked = tmp_path / "asked"
    size = ["--input-size", "32", "48"]
    status, _, err = run_tool("prune", dumped, checkpoint, *arguments, *size, "--out", asked)
    assert status == 0, err
    assert json.loads((asked / "widths.json").read_text())["costs"] == found[0]["costs"]


def test_prune_asks_for_a_size_before_it_writes(tmp_path):
    (tmp_path / "base.py").write_text("default_scope = 'mmpretrain'\n")
    pure = tmp_path / "pure.py"
    pure.write_text(PURE)
    cfg = read_config(pure)
    prepare_registries(cfg)
    checkpoint = tmp_path / "plain.pth"
    torch.save(dict(state_dict=MODELS.build(cfg.model.architecture).state_dict()), checkpoint)
    arguments = [
        checkpoint,
        "--criterion",
        "magnitude",
        "--ratio",
        "0.4",
        "--out",
        tmp_path / "out",
    ]
    status, _, err = run_tool("prune", pure, *arguments)
    assert status == 2
    assert "--input-size HEIGHT WIDTH" in err
    assert not (tmp_path / "out").exists()
    status, _, err = run_tool("prune", pure, *arguments, "--input-size", "32", "48")
    assert status == 0, err
