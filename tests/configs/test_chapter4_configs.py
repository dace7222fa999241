"""The configs of the thesis' chapter 4: sizes, costs, recipes, data, and their ways through the tools."""

import copy
import functools
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, init_default_scope
from mmengine.runner import Runner
from mmpretrain.datasets import CIFAR10
from torch import nn

from rarts_mm.analysis import count_flops
from rarts_mm.apis.configs import plain_config
from rarts_mm.apis.input_size import input_size
from rarts_mm.registry import MODELS
from tests.conftest import CONFIGS, run_tool
from tests.datasets.imagenet import write_imagenet

# Of the whole model: parameters, multiply-adds; and the scores of its search.
COSTS = {
    "preresnet164_cifar10": (1_703_258, 247_646_720, 12_112),
    "mobilenet-v2_imagenet20": (2_249_492, 299_519_872, 7_104),
    "swin-t_imagenet20": (27_534_734, pytest.approx(4.49e9, abs=0.005e9), 18_048),
}
# The plain config that a search config searches.
SEARCHES = {
    "rarts_preresnet164_cifar10": "preresnet164_cifar10",
    "rarts_preresnet164_cifar100": "preresnet164_cifar100",
    "netslim_preresnet164_cifar10": "preresnet164_cifar10",
    "netslim_preresnet164_cifar100": "preresnet164_cifar100",
    "rarts_mobilenet-v2_imagenet20": "mobilenet-v2_imagenet20",
    "sidt_swin_t_imagenet20": "swin-t_imagenet20",
}
# Without those of CIFAR-100, which differ in the data set alone: a test of their own says so.
BUILT = [name for name, base in SEARCHES.items() if base in COSTS]


@functools.cache
def _read(name: str) -> Config:
    folder = CONFIGS if name in SEARCHES else CONFIGS / "_base_"
    return Config.fromfile(folder / f"{name}.py")


def read(name: str) -> Config:
    cfg = copy.deepcopy(_read(name))
    init_default_scope(cfg.default_scope)
    return cfg


def build(cfg: Config) -> nn.Module:
    # The Runner hands a top-level data preprocessor to the outermost model, as here.
    return MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))


def numel(tensors) -> int:
    return sum(tensor.numel() for tensor in tensors)


def rates(cfg: Config) -> list[float]:
    """The learning rate of each epoch."""
    recipe = cfg.optim_wrapper.get("weights") or cfg.optim_wrapper
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=recipe.optimizer.lr)
    schedulers = [
        PARAM_SCHEDULERS.build(dict(schedule, optimizer=optimizer))
        for schedule in cfg.param_scheduler
    ]
    values = []
    for _ in range(cfg.train_cfg.max_epochs):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return values


@pytest.mark.parametrize("name", COSTS)
def test_size_and_cost_are_the_theses(name):
    cfg = read(name)
    model = build(cfg)
    parameters, flops, _ = COSTS[name]
    assert numel(model.parameters()) == parameters
    size = input_size(cfg)
    assert size == ((32, 32) if "cifar" in name else (224, 224))
    assert count_flops(model, size).total == flops
    assert cfg.data_preprocessor.num_classes == model.head.num_classes


@pytest.mark.parametrize("name", ["", "rarts_", "netslim_"])
def test_cifar100_differs_from_cifar10_in_the_data_alone(name):
    first, second = (read(f"{name}preresnet164_cifar{n}").to_dict() for n in (10, 100))
    architectures = [cfg["model"].get("architecture", cfg["model"]) for cfg in (first, second)]
    assert [a["head"].pop("num_classes") for a in architectures] == [10, 100]
    assert [cfg.pop("data_preprocessor")["num_classes"] for cfg in (first, second)] == [10, 100]
    assert [cfg["val_evaluator"]["topk"] for cfg in (first, second)] == [(1,), (1, 5)]
    for cfg, classes in ((first, 10), (second, 100)):
        for split in ("train", "val", "test"):
            dataset = cfg[f"{split}_dataloader"]["dataset"]
            kind, root = dataset.pop("type"), dataset.pop("data_root")
            assert (kind, root) == (f"CIFAR{classes}", f"data/cifar{classes}")
        for key in ("cifar", "how_to_get", "val_evaluator", "test_evaluator"):
            cfg.pop(key)
    assert first == second


@pytest.mark.parametrize("name", BUILT)
def test_scores_and_optimisers(name):
    cfg, base = read(name), read(SEARCHES[name])
    parameters, _, scores = COSTS[SEARCHES[name]]
    slimming, mobile = name.startswith("netslim"), "mobilenet" in name
    model = build(cfg)
    alphas = model.alpha_parameters()
    assert numel(alphas.values()) == scores

    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    players = {"auxiliary"} if slimming else {"auxiliary", "primary"}
    assert set(wrapper.keys()) == players | {"alpha"}
    recipe = base.optim_wrapper.optimizer
    settings = {
        key: recipe[key] for key in ("lr", "momentum", "nesterov", "betas") if key in recipe
    }
    decay = {recipe.weight_decay} | ({0} if recipe.type == "AdamW" else set())
    for player in players:
        groups = wrapper[player].optimizer.param_groups
        # Network Slimming's scores are parameters of the network, the scales of its batch norms.
        moved = numel(p for group in groups for p in group["params"])
        assert moved == parameters - (scores if slimming else 0)
        assert {group["weight_decay"] for group in groups} == decay
        assert all({key: group[key] for key in settings} == settings for group in groups)
    groups = wrapper["alpha"].optimizer.param_groups
    assert numel(p for group in groups for p in group["params"]) == scores
    assert {group["weight_decay"] for group in groups} == ({1e-4} if slimming else {0})
    assert all({key: group[key] for key in settings} == settings for group in groups)
    kinds = {type(each.optimizer).__name__ for each in wrapper.values()}
    assert kinds == {recipe.type}

    lagrangian = wrapper.lagrangian
    assert type(wrapper.alternation).__name__ == ("Joint" if slimming else "RARTS")
    assert lagrangian.lam == 1
    assert slimming or lagrangian.beta == 0.1
    (penalty,) = lagrangian.penalties
    assert type(penalty).__name__ == ("ProximalL1" if mobile else "L1Penalty")
    assert penalty.gamma == (2e-3 if mobile else 1e-4)
    assert cfg.train_cfg.max_epochs == 160
    assert cfg.train_dataloader == base.train_dataloader


def test_slimming_starts_from_half_and_its_scores_are_the_scales():
    cfg = read("netslim_preresnet164_cifar10")
    model = build(cfg)
    model.init_weights()
    alphas = model.alpha_parameters()
    assert all(torch.equal(alpha, torch.full_like(alpha, 0.5)) for alpha in alphas.values())
    state = model.auxiliary.state_dict()
    torch.nn.init.normal_(alphas["backbone.layer2.3.bn2"])
    assert torch.equal(state["backbone.layer2.3.bn2.weight"], alphas["backbone.layer2.3.bn2"])


def test_printed_recipes():
    cfg = read("preresnet164_cifar10")
    assert cfg.train_dataloader.batch_size == 64
    optimizer = dict(type="SGD", lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)
    assert cfg.optim_wrapper.optimizer == optimizer
    assert rates(cfg) == pytest.approx([0.1] * 80 + [0.01] * 40 + [0.001] * 40)
    swin = read("swin-t_imagenet20")
    assert swin.train_dataloader.batch_size == 256
    assert swin.optim_wrapper == read("swin-t_cifar100").optim_wrapper
    assert swin.param_scheduler == read("swin-t_cifar100").param_scheduler
    optimizer = swin.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.betas[0]) == ("AdamW", 2.5e-4, 0.9)
    assert optimizer.weight_decay == 0.05


@pytest.mark.parametrize("name", BUILT)
def test_fine_tuning_and_baseline_have_the_settings_of_the_search(name):
    cfg = read(name)
    base = read(SEARCHES[name])
    for recipe in ("finetune", "baseline"):
        plain = plain_config(cfg, recipe)
        for key in ("model", "optim_wrapper", "param_scheduler", "train_dataloader"):
            assert plain[key] == base[key], key
        assert plain.train_cfg.max_epochs == 160


def test_the_unfixed_ratio_can_come_out():
    """A score that the losses leave alone is at zero after 40 % of the search, as the config says."""
    cfg = read("rarts_mobilenet-v2_imagenet20")
    steps = 13_000 / cfg.train_dataloader.batch_size
    gamma = cfg.optim_wrapper.penalty.gamma
    shrunk = np.cumsum(rates(cfg)) * steps * gamma
    assert np.argmax(shrunk > 1) / 160 == pytest.approx(0.4, abs=0.02)


@pytest.mark.parametrize("name", ["netslim_preresnet164_cifar100", "sidt_swin_t_imagenet20"])
def test_a_config_survives_being_written(name, tmp_path):
    cfg = read(name)
    cfg.dump(tmp_path / "dumped.py")
    assert Config.fromfile(tmp_path / "dumped.py").to_dict() == cfg.to_dict()


@pytest.mark.parametrize("name", ["rarts_preresnet164_cifar100", "sidt_swin_t_imagenet20"])
def test_missing_data_says_how_to_get_it(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = run_tool("train", CONFIGS / f"{name}.py")
    assert status == 2
    if "imagenet20" in name:
        assert "python tools/make_imagenet_subset.py data/imagenet" in err
        assert "data/imagenet20/train.txt" in err
        assert "https://image-net.org" in err
    else:
        digits = name.rpartition("cifar")[2]
        assert f"cifar-{digits}-python.tar.gz | tar xz -C data/cifar{digits}" in err
    assert list(tmp_path.iterdir()) == []


def write_cifar10(root: Path, count: int) -> Path:
    """CIFAR-10's pickles, ``count`` images in each, bright or dark by their label."""
    generator = np.random.default_rng(0)
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in ("data_batch_1", "test_batch"):
        labels = [i % 10 for i in range(count)]
        pixels = generator.integers(0, 100, (count, 3 * 32 * 32)) + 15 * np.array(labels)[:, None]
        entry = dict(data=pixels.astype(np.uint8), labels=labels)
        (folder / name).write_bytes(pickle.dumps(entry))
    return root


@pytest.fixture
def cifar10(tmp_path, monkeypatch):
    # The checksums are those of the real files.
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", None]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", None]])
    monkeypatch.chdir(tmp_path)
    return write_cifar10(tmp_path / "data" / "cifar10", 40)


@pytest.fixture
def imagenet20(tmp_path, monkeypatch):
    """ImageNet of 22 classes, and the 20 that the tool draws."""
    monkeypatch.chdir(tmp_path)
    names = [f"n{i:08d}" for i in range(22)]
    write_imagenet(Path("data/imagenet"), dict.fromkeys(names, 3), dict.fromkeys(names, 1), True)
    status, _, err = run_tool("make_imagenet_subset", "data/imagenet", "--train", 2, "--val", 1)
    assert status == 0, err
    return tmp_path / "data" / "imagenet20"


def loader(cfg: Config, split: str) -> torch.utils.data.DataLoader:
    """The config's loader, in this process."""
    settings = cfg[f"{split}_dataloader"]
    settings.update(num_workers=0, persistent_workers=False)
    return Runner.build_dataloader(settings, seed=0)


@pytest.mark.parametrize("name", ["mobilenet-v2_imagenet20", "swin-t_imagenet20"])
def test_batches_of_imagenet20(name, imagenet20):
    cfg = read(name)
    labels = {}
    for split in ("train", "val"):
        batches = list(loader(cfg, split))
        images = [image for batch in batches for image in batch["inputs"]]
        assert {tuple(image.shape) for image in images} == {(3, 224, 224)}
        samples = [sample for batch in batches for sample in batch["data_samples"]]
        labels[split] = sorted(int(sample.gt_label) for sample in samples)
    assert labels == dict(train=sorted([*range(20)] * 2), val=[*range(20)])
    # Mixup and CutMix mix the 20 labels, not ImageNet's 1000.
    preprocessor = MODELS.build(
        dict(
            cfg.data_preprocessor,
            type="ClsDataPreprocessor",
            batch_augments=cfg.model.get("train_cfg"),
        )
    )
    prepared = preprocessor(batches[0], training=True)
    if name.startswith("swin"):
        assert {len(sample.gt_score) for sample in prepared["data_samples"]} == {20}


SMALL = ["train_cfg.max_epochs=1", "default_hooks.logger.interval=1", "randomness.seed=0"]
for _split in ("train", "val", "test"):
    SMALL += [
        f"{_split}_dataloader.{option}"
        for option in ("batch_size=4", "num_workers=0", "persistent_workers=False")
    ]
SMALL_CIFAR = [
    *SMALL,
    "model.architecture.backbone.depth=11",
    "model.architecture.backbone.base_channels=4",
    "model.architecture.head.in_channels=64",
]


def search_and_prune(name: str, small: list[str], *pruning: object) -> tuple[dict, str]:
    """A config through the tools in the working directory; returns widths.json and the search's log."""
    work = Path("work_dirs") / name
    status, _, err = run_tool("train", CONFIGS / f"{name}.py", "--cfg-options", *small)
    assert status == 0, err
    config = work / f"{name}.py"
    status, _, err = run_tool("prune", config, work / "epoch_1.pth", *pruning, "--out", "pruned")
    assert status == 0, err
    (log,) = work.glob("*/*.log")
    return json.loads(Path("pruned/widths.json").read_text()), log.read_text()


# What each block's three batch norms hand on.
SCORES = {
    "layer1.0": (4, 4, 4),
    "layer2.0": (16, 8, 8),
    "layer3.0": (32, 16, 16),
}


@pytest.mark.parametrize(
    "name",
    [
        "rarts_preresnet164_cifar10",
        pytest.param("netslim_preresnet164_cifar10", marks=pytest.mark.slow),
    ],
)
def test_preresnet_through_the_tools(name, cifar10):
    widths, log = search_and_prune(name, SMALL_CIFAR, "--ratio", 0.4)
    sizes = {
        unit.removeprefix("backbone."): found["size"] for unit, found in widths["units"].items()
    }
    expected = {
        f"{block}.bn{i}": size
        for block, three in SCORES.items()
        for i, size in enumerate(three, start=1)
    }
    assert sizes == {**expected, "bn": 64}
    scores = sum(sizes.values())
    assert widths["removed"] == round(0.4 * scores)
    assert (
        sum(len(found["kept"]) for found in widths["units"].values()) == scores - widths["removed"]
    )
    assert "unstable" not in log
    assert re.search(r"L1Penalty can shrink an entry of alpha by at most", log)
    if name.startswith("rarts"):
        status, _, err = run_tool("train", "pruned/pruned.py")
        assert status == 0, err
        tuned = torch.load("pruned/finetune/epoch_1.pth", weights_only=False)["state_dict"]
        for unit, found in widths["units"].items():
            assert len(tuned[f"{unit}.weight"]) == len(found["kept"]), unit


@pytest.mark.slow
def test_mobilenet_with_an_unfixed_ratio_through_the_tools(imagenet20):
    small = [
        *SMALL,
        "model.architecture.backbone.widen_factor=0.1",
        "train_dataloader.dataset.pipeline.1.scale=32",
        *(
            f"{split}_dataloader.dataset.pipeline.{option}"
            for split in ("val", "test")
            for option in ("1.scale=36", "2.crop_size=32")
        ),
        # Few steps: the threshold must be reached in them.
        "optim_wrapper.penalty.gamma=4.6",
    ]
    widths, log = search_and_prune("rarts_mobilenet-v2_imagenet20", small, "--ratio", "auto")
    state = torch.load("work_dirs/rarts_mobilenet-v2_imagenet20/epoch_1.pth", weights_only=False)[
        "state_dict"
    ]
    alphas = {
        key.removeprefix("alpha.").replace("/", "."): value
        for key, value in state.items()
        if key.startswith("alpha.")
    }
    assert alphas.keys() == widths["units"].keys()
    zeros = sum(int((alpha == 0).sum()) for alpha in alphas.values())
    assert 0 < zeros < sum(alpha.numel() for alpha in alphas.values())
    for name, alpha in alphas.items():
        # A layer that the search has emptied keeps its floor.
        kept = alpha.nonzero().flatten().tolist()
        assert widths["units"][name]["kept"] == kept or not kept
    assert "never become zero" not in log
