"""Bases that train by iterations, and samplers that never end, through the command lines."""

import json

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from rarts_mm.apis import plain_config, read_config
from rarts_mm.apis.config_files import config_text
from rarts_mm.apis.schedule import continued
from tests.conftest import run_tool

SCHEDULE = """
train_cfg = dict(type="IterBasedTrainLoop", max_iters=6, val_interval=3)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=2),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=2, end=6, T_max=4),
]
default_hooks = dict(
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=3),
    logger=dict(type="LoggerHook", interval=1),
)
"""
BASE = """
_base_ = "./schedule.py"
default_scope = "mmpretrain"
custom_imports = dict(imports=["rarts_mm"], allow_failed_imports=False)
model = dict(
    type="ImageClassifier",
    backbone=dict(type="rarts_mm.PreResNet", depth=20, base_channels=8),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(type="LinearClsHead", num_classes=2, in_channels=128),
)
data_preprocessor = dict(num_classes=2, mean=[120.0] * 3, std=[60.0] * 3)
dataset = dict(type="CustomDataset", data_root="{data}", serialize_data=False, pipeline=[
    dict(type="LoadImageFromFile"), dict(type="Resize", scale=16), dict(type="PackInputs"),
])
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type="InfiniteSampler"), dataset=dataset
)
val_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=False), dataset=dataset
)
test_dataloader = val_dataloader
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
val_evaluator = dict(type="Accuracy", topk=(1,))
test_evaluator = val_evaluator
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.01))
"""
SEARCH = """
_base_ = "./base.py"
model = dict(_delete_=True, type="rarts_mm.SearchModel", architecture=_base_.model)
optim_wrapper = dict(
    _delete_=True,
    type="rarts_mm.RARTSOptimWrapper",
    constructor="rarts_mm.RARTSOptimWrapperConstructor",
    weights=_base_.optim_wrapper,
)
param_scheduler = []
train_cfg = dict(_delete_=True, type="rarts_mm.SearchLoop", max_epochs=1)
default_hooks = dict(checkpoint=dict(by_epoch=True, interval=1), logger=dict(interval=2))
"""


@pytest.fixture
def search(tmp_path):
    """The config of a search over a base that counts iterations, and eight images."""
    generator = np.random.default_rng(0)
    for number in range(8):
        folder = tmp_path / "data" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(
            str(folder / f"{number}.png"), generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        )
    (tmp_path / "schedule.py").write_text(SCHEDULE)
    (tmp_path / "base.py").write_text(BASE.format(data=tmp_path / "data"))
    path = tmp_path / "search.py"
    path.write_text(SEARCH)
    return path


def test_search_prune_and_fine_tuning_come_to_an_end(search, tmp_path):
    run = tmp_path / "run"
    status, _, err = run_tool("train", search, "--work-dir", run)
    assert status == 0, err
    # Half of eight images in batches of two, though the sampler is endless.
    assert torch.load(run / "epoch_1.pth", weights_only=False)["meta"]["iter"] == 2
    # The copy that the search left in its folder, where the base is not known any more.
    arguments = [run / "search.py", run / "epoch_1.pth", "--ratio", "0.4", "--scratch"]
    status, _, err = run_tool("prune", *arguments, "--out", run / "pruned")
    assert status == 0, err
    for name, folder in (("pruned", "finetune"), ("scratch", "scratch")):
        status, _, err = run_tool("train", run / "pruned" / f"{name}.py")
        assert status == 0, err
        saved = sorted(path.name for path in (run / "pruned" / folder).glob("*.pth"))
        assert saved == ["iter_3.pth", "iter_6.pth"]
        log = next((run / "pruned" / folder).glob("*/*.log")).read_text()
        assert "Iter(train) [" not in log or "/6]" in log


@pytest.mark.parametrize("copy", ["file", "dumped", "derived"])
def test_the_bases_length_and_schedule_are_kept(search, copy):
    path = search
    if copy == "dumped":
        path = search.with_name("dumped.py")
        path.write_text(config_text(read_config(search)))
    elif copy == "derived":
        path = search.with_name("derived.py")
        path.write_text("_base_ = './search.py'\nrandomness = dict(seed=1)\n")
    base = Config.fromfile(search.with_name("base.py"))
    cfg = read_config(path)
    for recipe in ("finetune", "baseline"):
        plain = plain_config(cfg, recipe)
        for key in ("train_cfg", "param_scheduler", "train_dataloader", "optim_wrapper"):
            assert plain[key] == base[key], key
        assert plain.default_hooks.checkpoint == base.default_hooks.checkpoint
        # The rest of the hooks is the search's.
        assert plain.default_hooks.logger.interval == 2
    options = {"finetune.train_cfg.max_iters": 4, "baseline.param_scheduler": []}
    cfg = read_config(path, options)
    assert plain_config(cfg, "finetune").train_cfg.max_iters == 4
    assert plain_config(cfg, "baseline").param_scheduler == []


def test_what_the_search_says_goes_before(search):
    with search.open("a") as file:
        file.write("finetune = dict(train_cfg=dict(by_epoch=True, max_epochs=2))\n")
        file.write("baseline = dict(param_scheduler=None)\n")
    cfg = read_config(search)
    assert plain_config(cfg, "finetune").train_cfg == dict(by_epoch=True, max_epochs=2)
    baseline = plain_config(cfg, "baseline")
    assert baseline.train_cfg.max_iters == 6
    assert baseline.param_scheduler is None


PURE = """
from mmengine.config import read_base
with read_base():
    from .pure_base import *
from rarts_mm.engine import SearchLoop
from rarts_mm.models import SearchModel
model = dict(type=SearchModel, architecture=model)
optim_wrapper = dict(weights=optim_wrapper)
train_cfg = dict(type=SearchLoop, max_epochs=1)
"""
PURE_BASE = """
from mmengine.runner import IterBasedTrainLoop
from mmpretrain.models import ImageClassifier
model = dict(type=ImageClassifier)
optim_wrapper = dict(type="OptimWrapper")
train_cfg = dict(type=IterBasedTrainLoop, max_iters=70)
"""


def test_pure_python_bases_are_kept(tmp_path):
    (tmp_path / "pure_base.py").write_text(PURE_BASE)
    (tmp_path / "pure.py").write_text(PURE)
    plain = plain_config(read_config(tmp_path / "pure.py"), "finetune")
    assert plain.train_cfg.max_iters == 70
    assert plain.default_hooks.checkpoint.by_epoch is False


ENDLESS = [
    ("base.py", ["train_cfg.type=EpochBasedTrainLoop", "train_cfg.max_epochs=1"], "Infinite"),
    ("base.py", ["val_dataloader.sampler.type=InfiniteSampler"], "Infinite"),
    ("search.py", ["train_dataloader.sampler.type=mmdet.MultiSourceSampler"], "MultiSource"),
    ("search.py", ["val_dataloader.sampler.type=InfiniteSampler"], "Infinite"),
]


@pytest.mark.parametrize(("config", "options", "name"), ENDLESS)
def test_endless_samplers_are_refused(search, tmp_path, config, options, name):
    path = tmp_path / f"refused_{config}"
    text = f"_base_ = './{config}'\n"
    if options[0].startswith("train_cfg"):
        text += "train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=1)\n"
        options = []
    path.write_text(text)
    more = ["--cfg-options", *options] if options else []
    status, _, err = run_tool("train", path, "--work-dir", tmp_path / "run", *more)
    assert status == 2, err
    assert f"{name}Sampler' never comes to an end" in err
    assert "DefaultSampler" in err
    assert not (tmp_path / "run").exists()


def test_where_the_length_is_unknown_it_is_asked_for(search, tmp_path):
    run = tmp_path / "run"
    cfg = Config.fromfile(search)
    lost = tmp_path / "lost.py"
    # As other tools write it, without the file's history.
    lost.write_text(cfg.pretty_text)
    status, _, err = run_tool("train", lost, "--work-dir", run)
    assert status == 0, err
    arguments = [lost, run / "epoch_1.pth", "--ratio", "0.4", "--out", tmp_path / "out"]
    status, _, err = run_tool("prune", *arguments)
    assert status == 2
    assert "finetune = dict(train_cfg=dict(type='IterBasedTrainLoop', max_iters=N))" in err
    assert not (tmp_path / "out").exists()
    status, _, err = run_tool("compress", lost, "--ratio", "0.4", "--work-dir", tmp_path / "c")
    assert status == 2
    assert "never comes to an end" in err
    assert not (tmp_path / "c").exists()
    length = ["finetune.train_cfg.type=IterBasedTrainLoop", "finetune.train_cfg.max_iters=3"]
    status, _, err = run_tool("prune", *arguments, "--cfg-options", *length)
    assert status == 0, err


def test_a_longer_training_by_iterations_keeps_its_warm_up(search):
    cfg = Config.fromfile(search.with_name("base.py"))
    longer = continued(cfg, 18)
    assert longer.train_cfg == dict(type="IterBasedTrainLoop", max_iters=18, val_interval=9)
    warm_up, cosine = longer.param_scheduler
    assert warm_up == cfg.param_scheduler[0]
    assert (cosine.begin, cosine.end, cosine.T_max) == (2, 18, 16)
    steps = dict(type="MultiStepLR", by_epoch=False, begin=0, end=6, milestones=[4, 5])
    cfg.param_scheduler = [steps]
    assert continued(cfg, 12).param_scheduler[0].milestones == [8, 10]
    # Shorter than the warm-up: all of it shrinks.
    cfg.param_scheduler = [dict(type="LinearLR", by_epoch=False, begin=0, end=2), steps]
    assert continued(cfg, 2).param_scheduler[0].end == 1


@pytest.mark.slow
def test_the_whole_chain_counts_iterations(search, tmp_path):
    work = tmp_path / "work"
    arguments = [search, "--ratio", "0.4", "--control", "--work-dir", work]
    status, _, err = run_tool("compress", *arguments)
    assert status == 0, err
    results = json.loads((work / "results.json").read_text())
    # Two steps of the search and six of the fine-tuning.
    assert any("8 more iterations" in note for note in results["notes"])
    assert (work / "control" / "iter_8.pth").is_file()
    assert (work / "baseline" / "iter_6.pth").is_file()
