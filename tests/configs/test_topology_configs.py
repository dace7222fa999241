"""The topology searches: the printed settings, and a step on files of CIFAR's format."""

from pathlib import Path

import pytest
import torch
from mmengine import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.datasets import CIFAR10, CIFAR100

from rarts_mm.registry import MODELS
from tests.configs.test_chapter4_configs import write_cifar10
from tests.configs.test_cifar100_config import write_cifar100
from tests.conftest import forget_runs

CONFIGS = Path(__file__).parents[2] / "configs"
CLASSES = {"rarts_nats_cifar10.py": 10, "rarts_nats_cifar100.py": 100}
# The sizes that make them small.
SMALL = {
    "nats": dict(repeats=1, channels=4),
    "darts": dict(layers=3, channels=2, nodes=1),
}


@pytest.mark.parametrize(("name", "classes"), CLASSES.items())
def test_settings_are_those_of_the_paper(name, classes):
    """IEEE Access, IV-B 3: batch 64, 0.025, 0.9, 5e-4, alpha 3e-4 and 1e-3, 100 epochs."""
    cfg = Config.fromfile(CONFIGS / name)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    ((kind, alpha),) = model.alpha_parameters().items()
    assert (kind, tuple(alpha.shape)) == ("cell", (6, 5))
    assert alpha.abs().max() < 0.01
    assert model.auxiliary.head.num_classes == classes
    cells = [m for m in model.auxiliary.backbone.cells if hasattr(m, "edges")]
    assert [cell.channels for cell in cells] == [16] * 5 + [32] * 5 + [64] * 5
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    for player in ("auxiliary", "primary"):
        optimizer = wrapper[player].optimizer
        assert isinstance(optimizer, torch.optim.SGD)
        for group in optimizer.param_groups:
            assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.025, 0.9, 5e-4)
    (group,) = wrapper["alpha"].optimizer.param_groups
    assert (group["lr"], group["weight_decay"], group["betas"]) == (3e-4, 1e-3, (0.5, 0.999))
    assert cfg.train_dataloader.batch_size == 64
    assert cfg.train_cfg.max_epochs == 100
    assert cfg.train_cfg.split == dict(ratio=0.5, seed=0)
    assert cfg.custom_hooks[-1] == dict(type="rarts_mm.NATSLookUpHook", dataset=f"cifar{classes}")
    # The halves are of the training images.
    assert cfg.train_dataloader.dataset.split == "train"


@pytest.mark.parametrize("classes", [10, 100])
def test_settings_are_those_of_darts(classes):
    """Liu et al., ICLR 2019, appendix A.1: batch 64, 0.025, 0.9, 3e-4, alpha 3e-4 and 1e-3, 50 epochs."""
    cfg = Config.fromfile(CONFIGS / f"rarts_darts_cifar{classes}.py")
    init_default_scope(cfg.default_scope)
    model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    assert {k: tuple(a.shape) for k, a in model.alpha_parameters().items()} == dict(
        normal=(14, 8), reduce=(14, 8)
    )
    # The head has 256 inputs.
    weights = sum(p.numel() for p in model.auxiliary.parameters())
    assert weights == 1_930_618 + 257 * (classes - 10)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    (group,) = wrapper["alpha"].optimizer.param_groups
    assert (group["lr"], group["weight_decay"], group["betas"]) == (3e-4, 1e-3, (0.5, 0.999))
    for group in wrapper["primary"].optimizer.param_groups:
        assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.025, 0.9, 3e-4)
    assert (cfg.train_dataloader.batch_size, cfg.train_cfg.max_epochs) == (64, 50)
    assert cfg.train_dataloader.dataset.type == f"CIFAR{classes}"
    assert cfg.train_dataloader.dataset.split == "train"
    assert list(cfg.how_to_get) == [f"data/cifar{classes}"]


@pytest.mark.parametrize("space", SMALL)
@pytest.mark.parametrize("classes", [10, 100])
def test_a_step_on_files_of_the_data_sets_format(space, classes, tmp_path, monkeypatch):
    forget_runs()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    # The checksums are those of the real files.
    if classes == 10:
        monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", None]])
        monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", None]])
        write_cifar10(tmp_path / "data" / "cifar10", 8)
    else:
        monkeypatch.setattr(CIFAR100, "train_list", [["train", None]])
        monkeypatch.setattr(CIFAR100, "test_list", [["test", None]])
        (tmp_path / "data" / "cifar100").mkdir(parents=True)
        write_cifar100(tmp_path / "data" / "cifar100", 8)
    name, sizes = f"rarts_{space}_cifar{classes}.py", SMALL[space]
    cfg = Config.fromfile(CONFIGS / name)
    cfg.merge_from_dict(
        {
            "work_dir": str(tmp_path / "run"),
            "experiment_name": name,
            "train_cfg.max_epochs": 1,
            "train_dataloader.batch_size": 4,
            **{f"{part}_dataloader.num_workers": 0 for part in ("train", "val", "test")},
            **{f"{part}_dataloader.persistent_workers": False for part in ("train", "val", "test")},
            **{f"model.architecture.backbone.{key}": size for key, size in sizes.items()},
            "model.architecture.head.in_channels": 4 * sizes["channels"],
        }
    )
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 1
    files = ["genotype.json", "epoch_1.pth"] + ["nats.json"] * (space == "nats")
    for file in files:
        assert (tmp_path / "run" / file).is_file(), file
