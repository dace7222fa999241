"""The digits' configs: what they train, and a search through the command lines, by every criterion."""

import json
from pathlib import Path

import pytest
import torch
from mmengine import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from torch import nn

from rarts_mm.datasets import make_digits
from rarts_mm.registry import MODELS
from rarts_mm.widths import find_units
from tests.conftest import CONFIGS, run_tool

BASE = CONFIGS / "_base_" / "swin-micro_digits.py"
SEARCH = CONFIGS / "sidt_swin_micro_digits.py"
SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "digits"
    make_digits(folder)
    return folder


def small(path: Path, data: Path, more: str = "") -> Path:
    """The search config with an epoch each, on the data."""
    lines = [f'_base_ = "{SEARCH}"']
    lines += [f'{p}_dataloader = dict(dataset=dict(data_root="{data}"))' for p in SPLITS]
    lines += [
        "train_cfg = dict(max_epochs=1, val_interval=1)",
        "finetune = dict(train_cfg=dict(max_epochs=1, val_interval=1))",
        "default_hooks = dict(checkpoint=dict(interval=1))",
        more,
    ]
    path.write_text("\n".join(lines))
    return path


def test_nothing_in_it_makes_two_trainings_incomparable():
    cfg = Config.fromfile(BASE)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    statistics = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
    assert not any(isinstance(m, statistics) for m in model.modules())
    assert not any(isinstance(m, nn.Dropout) and m.p > 0 for m in model.modules())
    assert all(getattr(m, "drop_prob", 0) == 0 for m in model.modules())
    # No transform of the pipeline draws anything.
    kinds = [step.type for step in cfg.train_dataloader.dataset.pipeline]
    assert kinds == ["LoadImageFromFile", "Resize", "PackInputs"]
    assert cfg.model.get("train_cfg") is None, "mixup would stand here"
    prefixes = [cfg[f"{split}_dataloader"].dataset.data_prefix for split in SPLITS]
    assert prefixes == list(SPLITS)
    images = torch.randint(256, (3, 1, 8, 8)).float()
    model.train()
    first, second = model(images), model(images)
    assert first.shape == (3, 10)
    assert torch.equal(first, second)


def test_the_search_scores_attention_and_mlps():
    cfg = Config.fromfile(SEARCH)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    units, left_out = find_units(model.kept)
    assert [(u.kind, u.size) for u in units] == [
        ("attention", 8),
        ("mlp", 64),
        ("attention", 8),
        ("mlp", 128),
    ]
    assert not left_out
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert {g["lr"] for g in wrapper["alpha"].param_groups} == {3e-3}
    assert {g["weight_decay"] for g in wrapper["alpha"].param_groups} == {0}
    assert cfg.finetune.optim_wrapper.optimizer.lr == 1e-3
    assert cfg.finetune.param_scheduler[0].end == cfg.finetune.train_cfg.max_epochs


def test_missing_data_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = run_tool("train", SEARCH)
    assert status == 2
    assert "python tools/make_digits.py" in err


@pytest.mark.slow
def test_prune_by_every_criterion(data, tmp_path):
    """A search without alpha: |alpha| is refused, magnitude and random are recorded."""
    rule = (
        "model = dict(networks=1)\n"
        'optim_wrapper = dict(alternation=dict(type="WeightsOnly"), penalty=None)'
    )
    config = small(tmp_path / "search.py", data, rule)
    work = tmp_path / "run"
    status, _, err = run_tool("train", config, "--work-dir", work)
    assert status == 0, err
    checkpoint = work / "epoch_1.pth"
    before = sorted(work.rglob("*"))

    status, _, err = run_tool("prune", config, checkpoint, "--ratio", 0.4)
    assert status == 2
    assert "has not moved alpha" in err
    assert "--criterion magnitude" in err
    assert sorted(work.rglob("*")) == before

    kept = {}
    for name, arguments in {
        "magnitude": ["--criterion", "magnitude"],
        "random": ["--criterion", "random"],
        "random7": ["--criterion", "random", "--seed", 7],
    }.items():
        out = tmp_path / name
        arguments += ["--ratio", 0.4, "--out", out]
        status, _, err = run_tool("prune", config, checkpoint, *arguments)
        assert status == 0, err
        record = json.loads((out / "widths.json").read_text())
        kept[name] = {unit: found["kept"] for unit, found in record["units"].items()}
        assert record["removed"] == round(0.4 * 208)
        criterion = name.removesuffix("7")
        seed = {"magnitude": 0, "random": 0, "random7": 7}[name]
        for source in (
            record["source"],
            Config.fromfile(out / "pruned.py").pruning,
            torch.load(out / "pruned.pth", weights_only=False)["meta"]["rarts_mm"],
        ):
            ranking = source["ranking"]
            assert (ranking["criterion"], ranking["seed"]) == (criterion, seed)
            assert source["target"] == ["--ratio", "0.4"]
    assert kept["random"] != kept["random7"]
    assert [len(k) for k in kept["magnitude"].values()] == [5, 38, 5, 77]

    # The same folder takes the same pruning again, and no other.
    status, _, err = run_tool(
        "prune", config, checkpoint, "--criterion", "random", "--seed", 7, *arguments[-4:]
    )
    assert status == 0, err
    status, _, err = run_tool(
        "prune", config, checkpoint, "--criterion", "random", "--seed", 8, *arguments[-4:]
    )
    assert status == 2
    assert "another pruning (seed 7)" in err
    status, _, err = run_tool(
        "prune", config, checkpoint, "--criterion", "magnitude", *arguments[-4:]
    )
    assert status == 2
    assert "criterion random" in err

    status, _, err = run_tool(
        "prune", config, checkpoint, "--curve", "--criterion", "magnitude", "--out", tmp_path
    )
    assert status == 0, err
    assert "ranking: --criterion magnitude" in (tmp_path / "curve.md").read_text()
    status, _, err = run_tool("train", tmp_path / "random" / "pruned.py")
    assert status == 0, err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--criterion", "size"], "invalid choice: 'size'"),
        (["--seed", "3"], "--seed 3: only --criterion random draws"),
    ],
)
def test_bad_arguments(arguments, message):
    status, _, err = run_tool("prune", "a.py", "a.pth", "--ratio", 0.4, *arguments)
    assert status == 2
    assert message in err
