"""The configs that train derived networks: recipes, data, one step of each on files of its format."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.registry import PARAM_SCHEDULERS, init_default_scope
from mmengine.runner import Runner
from mmpretrain.datasets import CIFAR10, CIFAR100
from torch import nn
from torch.nn import functional

from rarts_mm.registry import MODELS
from rarts_mm.widths import find_units
from tests.conftest import CONFIGS, run_tool
from tests.datasets.imagenet import write_imagenet

CIFAR = ("darts_retrain_cifar10", "darts_retrain_cifar100")
IMAGENET = "darts_retrain_imagenet"
# Parameters with the auxiliary tower and classifier: 476,426 and 1,260,776 more than published.
COUNTS = {
    CIFAR[0]: 3_349_342 + 476_426,
    CIFAR[1]: 3_349_342 + 476_426 + 90 * (577 + 769),
    IMAGENET: 4_718_752 + 1_260_776,
}


def read(name: str) -> Config:
    cfg = Config.fromfile(CONFIGS / f"{name}.py")
    init_default_scope(cfg.default_scope)
    return cfg


def rates(cfg: Config) -> list[float]:
    """The learning rate of each epoch."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=cfg.optim_wrapper.optimizer.lr)
    (schedule,) = cfg.param_scheduler
    scheduler = PARAM_SCHEDULERS.build(dict(schedule, optimizer=optimizer))
    values = []
    for _ in range(cfg.train_cfg.max_epochs):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return values


@pytest.mark.parametrize("name", CIFAR)
def test_the_recipe_of_cifar(name):
    cfg = read(name)
    assert cfg.train_cfg.max_epochs == 600
    assert cfg.train_dataloader.batch_size == 96
    assert cfg.optim_wrapper.optimizer == dict(
        type="SGD", lr=0.025, momentum=0.9, weight_decay=3e-4
    )
    assert cfg.optim_wrapper.clip_grad.max_norm == 5
    cosine = 0.0125 * (1 + np.cos(np.pi * np.arange(600) / 600))
    assert rates(cfg) == pytest.approx(cosine.tolist(), abs=1e-9)
    backbone, head = cfg.model.backbone, cfg.model.head
    assert (backbone.channels, backbone.layers, backbone.drop_path_rate) == (36, 20, 0.2)
    assert (head.auxiliary_weight, head.loss.type) == (0.4, "CrossEntropyLoss")
    assert [hook.type for hook in cfg.custom_hooks] == ["rarts_mm.DropPathScheduleHook"]


def test_the_recipe_of_imagenet():
    cfg = read(IMAGENET)
    assert cfg.train_cfg.max_epochs == 250
    assert cfg.train_dataloader.batch_size == 128
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ("SGD", 0.1, 3e-5)
    assert rates(cfg) == pytest.approx([0.1 * 0.97**epoch for epoch in range(250)])
    backbone, head = cfg.model.backbone, cfg.model.head
    assert (backbone.channels, backbone.layers, backbone.drop_path_rate) == (48, 14, 0.0)
    assert head.auxiliary_weight == 0.4
    # Label smoothing, by its formula.
    loss = MODELS.build(head.loss)
    scores = torch.randn(3, 1000, generator=torch.Generator().manual_seed(0))
    truth = torch.tensor([5, 999, 0])
    expected = functional.cross_entropy(scores, truth, label_smoothing=0.1)
    torch.testing.assert_close(loss(scores, truth), expected)


@pytest.mark.parametrize("name", [*CIFAR, IMAGENET])
def test_the_network_is_the_published_one(name):
    cfg = read(name)
    assert cfg.model.backbone.genotype == "DARTS_V2"
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
        assert sum(p.numel() for p in model.parameters()) == COUNTS[name]
        cfg.merge_from_dict({"model.backbone.genotype": "DARTS_V1"})
        other = MODELS.build(cfg.model)
    assert len(other.backbone.state_dict()) != len(model.backbone.state_dict())
    assert cfg.data_preprocessor.num_classes == model.head.num_classes


def write_cifar(root: Path, classes: int, count: int) -> Path:
    """CIFAR's pickles of ``count`` white images in each file."""
    pixels = np.full((count, 3 * 32 * 32), 255, np.uint8)
    labels = [i % classes for i in range(count)]
    if classes == 10:
        entry = dict(data=pixels, labels=labels)
        files = dict.fromkeys(("data_batch_1", "test_batch"), entry)
        folder = root / "cifar-10-batches-py"
    else:
        entry = dict(data=pixels, fine_labels=labels, coarse_labels=labels)
        files = dict.fromkeys(("train", "test"), entry)
        folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for name, entry in files.items():
        (folder / name).write_bytes(pickle.dumps(entry))
    return root


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Four images of each data set, where the configs look for them."""
    # The checksums are those of the real files.
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", None]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", None]])
    monkeypatch.setattr(CIFAR100, "train_list", [["train", None]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", None]])
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "data"
    write_cifar(root / "cifar10", 10, 4)
    write_cifar(root / "cifar100", 100, 4)
    names = [f"n{i:08d}" for i in range(1000)]
    # All thousand classes have a folder.
    numbers = dict.fromkeys(names, 0) | {names[0]: 1, names[7]: 1, names[999]: 2}
    imagenet = write_imagenet(root / "imagenet", numbers, numbers)
    for name in names:
        (imagenet / "val" / name).mkdir(exist_ok=True)
    return root


@pytest.mark.parametrize("name", CIFAR)
def test_each_training_image_has_a_hole_of_the_mean_colour(name, data):
    cfg = read(name)
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    (batch,) = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    mean = torch.tensor(cfg.data_preprocessor.mean)
    for image in batch["inputs"]:
        assert image.shape == (3, 32, 32)
        # White, the black border of the crop, or the hole.
        hole = ~((image == 255).all(0) | (image == 0).all(0))
        rows, columns = hole.any(1).sum(), hole.any(0).sum()
        assert 8 <= rows <= 16
        assert 8 <= columns <= 16
        assert hole.sum() == rows * columns
        torch.testing.assert_close(image[:, hole].double().mean(1), mean.double(), atol=0.5, rtol=0)
    # In evaluation the image is whole.
    cfg.val_dataloader.update(num_workers=0, persistent_workers=False)
    (batch,) = Runner.build_dataloader(cfg.val_dataloader, seed=0)
    assert all((image == 255).all() for image in batch["inputs"])


def short(batch_size: int) -> list[str]:
    """Options for one epoch of small batches."""
    options = ["train_cfg.max_epochs=1", "default_hooks.logger.interval=1", "randomness.seed=0"]
    for split in ("train", "val", "test"):
        options += [
            f"{split}_dataloader.{option}"
            for option in (
                f"batch_size={batch_size}",
                "num_workers=0",
                "persistent_workers=False",
            )
        ]
    return options


@pytest.mark.parametrize("name", [*CIFAR, IMAGENET])
def test_one_step(name, data):
    """Of the full networks; of CIFAR-100, which differs in the classifier, a small one."""
    options = [*short(4), "model.backbone.genotype=DARTS_V1"]
    if name == "darts_retrain_cifar100":
        options += ["model.backbone.channels=4", "model.backbone.layers=5"]
        options.append("model.head.in_channels=64")
    status, _, err = run_tool("train", CONFIGS / f"{name}.py", "--cfg-options", *options)
    assert status == 0, err
    work = Path("work_dirs") / name
    state = torch.load(work / "epoch_1.pth", weights_only=False)["state_dict"]
    assert all(value.isfinite().all() for value in state.values())
    (log,) = work.glob("*/*.log")
    assert "loss_auxiliary_head: " in log.read_text()
    assert "accuracy/top1" in log.read_text()


@pytest.mark.parametrize("name", [*CIFAR, IMAGENET])
def test_missing_data_says_how_to_get_it(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = run_tool("train", CONFIGS / f"{name}.py")
    assert status == 2
    assert "https://image-net.org" in err if name == IMAGENET else "-python.tar.gz | tar xz" in err
    assert list(tmp_path.iterdir()) == []


WIDTH = "rarts_darts-width_cifar10"


def test_the_width_search_takes_the_derived_network_as_it_is():
    cfg, plain = read(WIDTH), read(CIFAR[0])
    assert cfg.load_from == f"work_dirs/{CIFAR[0]}/epoch_{plain.train_cfg.max_epochs}.pth"
    assert f"configs/{CIFAR[0]}.py" in cfg.how_to_get[cfg.load_from]
    with torch.device("meta"):
        network = MODELS.build(cfg.model.architecture)
    assert sum(p.numel() for p in network.parameters()) == 3_349_342
    units, _ = find_units(network)
    # Five separable convolutions in each of 18 normal cells: six of each width.
    assert sorted(unit.size for unit in units) == [36] * 30 + [72] * 30 + [144] * 30


@pytest.mark.slow
def test_width_search_on_a_derived_network_through_the_tools(data):
    """Trained network, auxiliary tower and all -> search -> pruned -> fine-tuned."""
    small = dict(channels=4, layers=4)
    trained = read(CIFAR[0])
    trained.model.backbone.update(small)
    trained.model.head.in_channels = 64
    state = MODELS.build(trained.model).state_dict()
    start = data.parent / read(WIDTH).load_from
    start.parent.mkdir(parents=True)
    torch.save(dict(state_dict=state, meta={}), start)
    options = short(2)
    options += [f"model.architecture.backbone.{key}={value}" for key, value in small.items()]
    options.append("model.architecture.head.in_channels=64")
    status, _, err = run_tool("train", CONFIGS / f"{WIDTH}.py", "--cfg-options", *options)
    assert status == 0, err
    work = Path("work_dirs") / WIDTH
    status, _, err = run_tool(
        "prune", work / f"{WIDTH}.py", work / "epoch_1.pth", "--ratio", 0.4, "--out", "pruned"
    )
    assert status == 0, err
    widths = json.loads(Path("pruned/widths.json").read_text())
    # Cells 1 and 2 are the reductions, which hold no separable convolution in DARTS_V2.
    assert sorted(found["size"] for found in widths["units"].values()) == [4] * 5 + [16] * 5
    assert widths["removed"] == round(0.4 * 100)
    status, _, err = run_tool("train", "pruned/pruned.py")
    assert status == 0, err
    tuned = torch.load("pruned/finetune/epoch_1.pth", weights_only=False)["state_dict"]
    for unit, found in widths["units"].items():
        assert len(tuned[f"{unit}.weight"]) == len(found["kept"])
