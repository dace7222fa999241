"""tools/derive.py: from a search's work dir to a config that trains, through the command line."""

import functools
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine import Config
from mmpretrain.datasets import CIFAR10

from rarts_mm.cells import CellSpace, NATSSpace
from rarts_mm.cells.genotype import GENOTYPES, Genotype
from rarts_mm.cells.operations import OPERATIONS
from tests.conftest import CONFIGS, run_tool

FILES = ["cells.png", "cells.svg", "genotype.json", "genotype.txt", "retrain.py"]
# Of DARTS_V2, without the auxiliary tower and its classifier.
CIFAR_PARAMETERS, IMAGENET_PARAMETERS = 3_349_342, 4_718_752


def alphas_of(genotype: Genotype, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random alpha whose genotype is the given one."""
    generator = torch.Generator().manual_seed(seed)
    alphas = {}
    for cell in ("normal", "reduce"):
        rows = []
        for i, node in enumerate(genotype.nodes(cell)):
            alpha = torch.rand(2 + i, len(OPERATIONS), generator=generator)
            alpha[:, 0] = 4.0  # none is the largest
            for rank, (operation, source) in enumerate(node):
                alpha[source, list(OPERATIONS).index(operation)] = 3.0 - rank / 4
            rows.append(alpha)
        alphas[cell] = torch.cat(rows)
    assert CellSpace().derive(alphas) == genotype
    return alphas


@functools.cache
def flat(name: str, **options) -> str:
    """The text of a shipped config, with all that it inherits: faster to read."""
    cfg = Config.fromfile(CONFIGS / f"{name}.py")
    cfg.merge_from_dict({key.replace("__", "."): value for key, value in options.items()})
    return cfg.pretty_text


@pytest.fixture
def small(tmp_path) -> Path:
    """Config of a network of three cells that can be filled with others."""
    path = tmp_path / "small.py"
    sizes = dict(model__backbone__channels=4, model__backbone__layers=3)
    path.write_text(flat("darts_retrain_cifar10", **sizes))
    return path


def write_search(
    folder: Path, config: str = "", epoch: int = 50, genotype="DARTS_V2", **state
) -> Path:
    """The folder that a search leaves, as far as it matters: config, checkpoint and its name."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "search.py").write_text(config or flat("rarts_darts_cifar10"))
    alphas = {f"alpha.{k}": v for k, v in alphas_of(GENOTYPES[genotype]).items()}
    path = folder / f"epoch_{epoch}.pth"
    torch.save(dict(meta=dict(epoch=epoch), state_dict=state or alphas), path)
    (folder / "last_checkpoint").write_text(str(path))
    return folder


@pytest.mark.slow
def test_the_config_it_writes_is_the_published_network(tmp_path):
    folder = write_search(tmp_path / "search")
    status, out, err = run_tool("derive", folder, "--network", "cifar")
    assert status == 0, err
    derived = folder / "derived_cifar"
    assert sorted(path.name for path in derived.iterdir()) == FILES
    v2 = GENOTYPES["DARTS_V2"]
    assert Genotype.parse((derived / "genotype.json").read_text()) == v2
    assert (derived / "genotype.txt").read_text() == v2.text() + "\n"
    for part in (v2.text(), "after epoch 50", f"{CIFAR_PARAMETERS:,}", "476,426", "retrain.py"):
        assert part in out
    assert "skip connections: 31.2% (normal 25.0%, reduce 37.5%)" in out
    cfg = Config.fromfile(derived / "retrain.py")
    assert Genotype.parse(cfg.model.backbone.genotype) == v2
    assert cfg.work_dir == str(derived / "retrain")
    base = Config.fromfile(CONFIGS / "darts_retrain_cifar10.py")
    for key in (
        "train_dataloader",
        "val_dataloader",
        "optim_wrapper",
        "param_scheduler",
        "train_cfg",
    ):
        assert cfg[key] == base[key], key
    assert cfg.model.head == base.model.head
    # It needs no other file.
    assert "_base_" not in (derived / "retrain.py").read_text()


def test_imagenet_and_the_newest_search(tmp_path, monkeypatch):
    write_search(tmp_path / "work_dirs" / "older", genotype="DARTS_V1")
    newer = write_search(tmp_path / "work_dirs" / "deep" / "newer", epoch=3)
    os.utime(tmp_path / "work_dirs" / "older" / "epoch_50.pth", (1, 1))
    # A newer search of another kind is not meant.
    width = flat("sidt_swin_t_cifar100")
    write_search(tmp_path / "work_dirs" / "width", config=width)
    monkeypatch.chdir(tmp_path)
    status, out, err = run_tool("derive", "--network", "imagenet", "--out", "found")
    assert status == 0, err
    assert f"{IMAGENET_PARAMETERS:,}" in out
    assert "224 x 224" in out
    assert "deep/newer/epoch_3.pth (after epoch 3)" in out
    assert sorted(path.name for path in (tmp_path / "found").iterdir()) == FILES
    assert sorted(path.name for path in newer.iterdir()) == [
        "epoch_3.pth",
        "last_checkpoint",
        "search.py",
    ]
    cfg = Config.fromfile(tmp_path / "found" / "retrain.py")
    assert cfg.train_dataloader.dataset.data_root == "data/imagenet"
    assert cfg.model.head.num_classes == 1000


def test_the_best_checkpoint_and_others(tmp_path, small):
    folder = write_search(tmp_path / "search")
    status, _, err = run_tool("derive", folder, "--checkpoint", "best")
    assert status == 2
    assert "has no best_*.pth; searches keep one with" in err
    assert "save_best='accuracy/top1'" in err
    other = write_search(tmp_path / "other", epoch=7, genotype="DARTS_V1") / "epoch_7.pth"
    shutil.copy(other, folder / "best_accuracy_top1_epoch_7.pth")
    shutil.copy(other, folder / "epoch_7.pth")
    for asked, name in (("best", "best_accuracy_top1_epoch_7"), ("epoch_7.pth", "epoch_7")):
        status, out, err = run_tool("derive", folder, "--checkpoint", asked, "--network", small)
        assert status == 0, err
        assert "after epoch 7" in out
        derived = folder / f"derived_small_{name}"
        assert Genotype.parse((derived / "genotype.json").read_text()) == GENOTYPES["DARTS_V1"]


def test_the_data_of_a_cifar_search_go_on(tmp_path):
    elsewhere = dict(
        model__architecture__head__num_classes=100,
        train_dataloader__dataset__type="CIFAR100",
        train_dataloader__dataset__data_root="elsewhere/cifar100",
        val_dataloader__dataset__type="CIFAR100",
        val_dataloader__dataset__data_root="elsewhere/val",
        how_to_get="ask for it",
    )
    config = flat("rarts_darts_cifar10", **elsewhere)
    folder = write_search(tmp_path / "search", config=config)
    options = [
        "model.backbone.layers=3",
        "model.backbone.channels=4",
        "train_dataloader.batch_size=8",
    ]
    status, _, err = run_tool("derive", folder, "--cfg-options", *options)
    assert status == 0, err
    cfg = Config.fromfile(folder / "derived_cifar" / "retrain.py")
    assert cfg.train_dataloader.dataset.type == "CIFAR100"
    assert cfg.train_dataloader.dataset.data_root == "elsewhere/cifar100"
    assert cfg.val_dataloader.dataset.data_root == "elsewhere/val"
    assert cfg.train_dataloader.batch_size == 8
    assert (cfg.model.head.num_classes, cfg.data_preprocessor.num_classes) == (100, 100)
    # The retraining's own augmentation, and a head that fits the smaller network.
    assert cfg.train_dataloader.dataset.pipeline[2].type == "Cutout"
    assert tuple(cfg.train_dataloader.dataset.pipeline[2].pad_val) == (129, 124, 112)
    assert cfg.model.head.in_channels == 4 * 4 * 4
    assert cfg.how_to_get == "ask for it"


@pytest.fixture
def cifar(tmp_path, monkeypatch) -> Path:
    """CIFAR-10's files with eight images each."""
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", None]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", None]])
    pixels = np.random.default_rng(0).integers(0, 255, (8, 3072), dtype=np.uint8)
    folder = tmp_path / "images" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in ("data_batch_1", "test_batch"):
        (folder / name).write_bytes(pickle.dumps(dict(data=pixels, labels=[*range(8)])))
    return folder.parent


@pytest.mark.slow
def test_from_a_search_to_a_step_of_retraining(tmp_path, cifar, small):
    """The shipped search config, smaller, through all three command lines."""
    folder = tmp_path / "search"
    light = ["num_workers=0", "persistent_workers=False", "batch_size=4"]
    loaders = [f"{loader}_dataloader.{o}" for loader in ("train", "val") for o in light]
    roots = [f"{loader}_dataloader.dataset.data_root={cifar}" for loader in ("train", "val")]
    architecture = "model.architecture."
    sizes = ["backbone.channels=2", "backbone.layers=3", "head.in_channels=32"]
    sizes = [architecture + size for size in sizes]
    epochs = ["train_cfg.max_epochs=1", "train_cfg.val_interval=1"]
    options = [*loaders, *roots, *sizes, *epochs]
    config = CONFIGS / "rarts_darts_cifar10.py"
    status, _, err = run_tool("train", config, "--work-dir", folder, "--cfg-options", *options)
    assert status == 0, err
    record = json.loads((folder / "genotypes.json").read_text())
    assert record["best"]["epoch"] == 1
    assert len(list(folder.glob("best_accuracy_top1_epoch_1.pth"))) == 1

    options = [*loaders, "train_cfg.max_epochs=1"]
    status, _, err = run_tool("derive", folder, "--network", small, "--cfg-options", *options)
    assert status == 0, err
    derived = folder / "derived_small"
    assert json.loads((derived / "genotype.json").read_text()) == record["history"][0]["genotype"]
    assert (derived / "genotype.json").read_bytes() == (folder / "genotype.json").read_bytes()
    assert (derived / "cells.svg").read_bytes() == (folder / "cells.svg").read_bytes()
    assert Config.fromfile(derived / "retrain.py").train_dataloader.dataset.data_root == str(cifar)
    status, _, err = run_tool("train", derived / "retrain.py")
    assert status == 0, err
    assert (derived / "retrain" / "epoch_1.pth").is_file()


NATS_SEARCH = """
model = dict(
    type="rarts_mm.SearchModel",
    architecture=dict(type="mmpretrain.ImageClassifier", backbone=dict(type="rarts_mm.NATSSearchNetwork")),
    space=dict(type="NATSSpace"))
custom_imports = dict(imports=["rarts_mm"])
default_scope = "mmpretrain"
"""


def test_a_nats_search_gives_the_string(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "nothing"))
    alpha = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    folder = write_search(tmp_path / "search", config=NATS_SEARCH, **{"alpha.cell": alpha})
    architecture = NATSSpace().derive({"cell": alpha})
    status, out, err = run_tool("derive", folder)
    assert status == 0, err
    assert architecture.text() in out
    assert f"skip connections: {architecture.skip_share:.1%}" in out
    assert "accuracy not looked up: " in out
    assert str(tmp_path / "nothing") in out
    assert sorted(p.name for p in (folder / "derived").iterdir()) == [
        "genotype.json",
        "genotype.txt",
    ]
    written = json.loads((folder / "derived" / "genotype.json").read_text())
    assert written == architecture.to_dict()
    status, _, err = run_tool("derive", folder, "--network", "cifar")
    assert status == 2
    assert "of DARTS cells, the search derives a NATSArchitecture" in err

    network = tmp_path / "nats.py"
    network.write_text(
        "model = dict(type='ImageClassifier', backbone=dict(type='rarts_mm.NATSNetwork',"
        " architecture='', channels=4, repeats=1), neck=dict(type='GlobalAveragePooling'),"
        " head=dict(type='LinearClsHead', num_classes=10, in_channels=0))\n"
        "custom_imports = dict(imports=['rarts_mm'])\ndefault_scope = 'mmpretrain'\n"
    )
    status, _, err = run_tool("derive", folder, "--network", network)
    assert status == 0, err
    cfg = Config.fromfile(folder / "derived_nats" / "retrain.py")
    assert cfg.model.backbone.architecture == architecture.text()
    assert cfg.model.head.in_channels == 16


# --- bad input -----------------------------------------------------------------------------------


def refused(*args: object) -> str:
    status, _, err = run_tool("derive", *args)
    assert status == 2
    assert err.startswith("error: ")
    return err


def test_folders_without_a_topology_search(tmp_path, monkeypatch):
    assert "is no folder; give the work dir of a search" in refused(tmp_path / "nothing")
    assert "no search with a checkpoint under" in refused(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert "no search with a checkpoint under" in refused()
    width = flat("sidt_swin_t_cifar100")
    folder = write_search(tmp_path / "width", config=width)
    message = refused(folder)
    assert "holds a search in a WidthSpace" in message
    # Outside of the checkout.
    assert f"rarts-mm prune {folder / 'search.py'} {folder / 'epoch_50.pth'}" in message


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"backbone.weight": torch.zeros(1)}, "holds no scores (no entry alpha.*)"),
        (dict.fromkeys(("alpha.normal", "alpha.reduce"), torch.zeros(9, 5)), "shape (9, 5)"),
        ({"alpha.normal": torch.zeros(14, 8)}, "no genotype without alphas['reduce']"),
        (
            dict.fromkeys(("alpha.normal", "alpha.reduce"), torch.full((14, 8), torch.nan)),
            "112 values of alpha.normal are not finite",
        ),
    ],
    ids=["plain", "shape", "missing", "nan"],
)
def test_checkpoints_without_a_genotype(tmp_path, small, state, message):
    folder = write_search(tmp_path / "search", **state)
    error = refused(folder, "--network", small)
    assert message in error
    assert str(folder / "epoch_50.pth") in error
    assert not list(folder.glob("derived*"))


def test_checkpoints_and_networks_that_are_not_there(tmp_path, small):
    folder = write_search(tmp_path / "search")
    assert "gone.pth does not exist" in refused(folder, "--checkpoint", "gone.pth")
    (folder / "broken.pth").write_bytes(b"PK")
    assert "broken.pth cannot be read: 2 bytes that" in refused(
        folder, "--checkpoint", "broken.pth"
    )
    message = refused(folder, "--network", "mobile")
    assert "--network mobile: no such network, and no such file; give cifar, imagenet" in message
    message = refused(folder, "--network", CONFIGS / "_base_/preresnet20_digits.py")
    assert "its model.backbone has no genotype to fill in" in message
    message = refused(folder, "--network", small, "--cfg-options", "model.backbone.layers=1")
    assert "layers=1 must be a whole number of at least 3" in message
    assert not list(folder.glob("derived*"))


def test_images_that_are_too_small_for_the_network(tmp_path):
    """Before anything is written, not in the first step of the training."""
    folder = write_search(tmp_path / "search")
    digits = CONFIGS / "darts_retrain_digits.py"
    options = ("model.backbone.auxiliary=True",)
    err = refused(folder, "--network", digits, "--cfg-options", *options)
    assert "8 x 8" in err
    assert "at least 29 x 29" in err
    assert not (folder / "derived_darts_retrain_digits").exists()


@pytest.mark.parametrize("name", FILES)
def test_files_of_another_kind_stay(tmp_path, small, name):
    folder = write_search(tmp_path / "search")
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("mine")
    message = refused(folder, "--out", out, "--network", small)
    assert f"holds other files of these names ({name})" in message
    assert "--out DIR" in message
    assert [(path.name, path.read_text()) for path in out.iterdir()] == [(name, "mine")]


def test_another_derivation_stays(tmp_path, small):
    folder = write_search(tmp_path / "search")
    assert run_tool("derive", folder, "--network", small)[0] == 0
    before = {path: path.read_bytes() for path in (folder / "derived_small").iterdir()}
    # The same one once more is fine, also where the folder has files of others.
    (folder / "derived_small" / "notes.txt").write_text("mine")
    assert run_tool("derive", folder, "--network", small)[0] == 0
    (folder / "derived_small" / "notes.txt").unlink()
    assert {path: path.read_bytes() for path in (folder / "derived_small").iterdir()} == before
    write_search(folder, genotype="DARTS_V1")
    assert "genotype.json, genotype.txt, retrain.py" in refused(folder, "--network", small)
    assert {path: path.read_bytes() for path in (folder / "derived_small").iterdir()} == before
