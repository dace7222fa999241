"""Swin-T on CIFAR-100: size, cost, optimiser, and the data set's own file format."""

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.datasets import CIFAR100
from mmpretrain.registry import MODELS
from torch.utils.flop_counter import FlopCounterMode

CONFIG = Path(__file__).parents[2] / "configs/_base_/swin-t_cifar100.py"


@pytest.fixture
def cfg():
    cfg = Config.fromfile(CONFIG)
    init_default_scope("mmpretrain")
    return cfg


@pytest.fixture(scope="module")
def classifier():
    init_default_scope("mmpretrain")
    cfg = Config.fromfile(CONFIG)
    return MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))


def test_size_and_cost_are_the_theses(classifier):
    assert sum(parameter.numel() for parameter in classifier.parameters()) == 27_596_254
    classifier.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        scores = classifier.head(classifier.extract_feat(torch.zeros(1, 3, 224, 224)))
    assert scores.shape == (1, 100)
    # torch counts a multiply-add as two.
    assert counter.get_total_flops() / 2 == pytest.approx(4.49e9, abs=0.005e9)


def test_weights_decay_and_nothing_else(cfg, classifier):
    wrapper = build_optim_wrapper(classifier, cfg.optim_wrapper)
    assert isinstance(wrapper.optimizer, torch.optim.AdamW)
    names = {parameter: name for name, parameter in classifier.named_parameters()}
    seen = set()
    for group in wrapper.optimizer.param_groups:
        assert group["lr"] == 2.5e-4
        for parameter in group["params"]:
            name = names[parameter]
            seen.add(name)
            decays = parameter.ndim > 1 and "bias_table" not in name
            assert group["weight_decay"] == (0.05 if decays else 0), name
    assert seen == set(names.values())


def write_cifar100(root: Path, count: int) -> np.ndarray:
    """CIFAR-100's pickles with ``count`` images; returns the pixels, (count, 32, 32, 3), RGB."""
    pixels = np.random.default_rng(0).integers(0, 255, (count, 3, 32, 32), dtype=np.uint8)
    folder = root / "cifar-100-python"
    folder.mkdir()
    for split in ("train", "test"):
        entry = dict(
            data=pixels.reshape(count, -1),
            fine_labels=[99 - i for i in range(count)],
            coarse_labels=[0] * count,
            filenames=[f"{i}.png" for i in range(count)],
        )
        (folder / split).write_bytes(pickle.dumps(entry))
    return pixels.transpose(0, 2, 3, 1)


def local(dataloader, root: Path):
    """The config's loader on the data set at ``root``, in this process."""
    dataloader = copy.deepcopy(dataloader)
    dataloader.dataset.data_root = str(root)
    dataloader.update(num_workers=0, persistent_workers=False)
    return Runner.build_dataloader(dataloader, seed=0)


@pytest.fixture
def pixels(tmp_path, monkeypatch):
    # The checksums are those of the real files.
    monkeypatch.setattr(CIFAR100, "train_list", [["train", None]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", None]])
    return write_cifar100(tmp_path, 20)


def test_training_batches(cfg, pixels, tmp_path, classifier):
    loader = local(cfg.train_dataloader, tmp_path)
    assert loader.batch_size == 256
    (batch,) = loader
    assert {tuple(image.shape) for image in batch["inputs"]} == {(3, 224, 224)}
    assert sorted(int(sample.gt_label) for sample in batch["data_samples"]) == [*range(80, 100)]
    middles = [image.numpy()[:, 3::7, 3::7].transpose(1, 2, 0) for image in batch["inputs"]]
    originals = [pixels[99 - int(sample.gt_label)] for sample in batch["data_samples"]]
    distances = [
        np.abs(a - b.astype(float)).mean() for a, b in zip(middles, originals, strict=True)
    ]
    assert np.median(distances) > 20, "training images are augmented"
    prepared = classifier.data_preprocessor(batch, training=True)
    assert prepared["inputs"].shape == (20, 3, 224, 224)


def test_validation_batches_are_the_enlarged_images_in_rgb(cfg, pixels, tmp_path, classifier):
    loader = local(cfg.val_dataloader, tmp_path)
    (batch,) = loader
    image = batch["inputs"][3].float()
    assert int(batch["data_samples"][3].gt_label) == 96
    # Bicubic enlargement by 7 passes close to the original value in the middle of each pixel.
    middle = image[:, 3::7, 3::7].permute(1, 2, 0).numpy()
    assert np.corrcoef(middle.ravel(), pixels[3].ravel())[0, 1] > 0.99
    prepared = classifier.data_preprocessor(batch, training=False)["inputs"][3]
    mean, std = (torch.tensor(cfg.data_preprocessor[key])[:, None, None] for key in ("mean", "std"))
    torch.testing.assert_close(prepared, (image - mean) / std)


def test_a_missing_data_set_is_not_downloaded_unasked(cfg, tmp_path):
    with pytest.raises(RuntimeError, match="Cannot find CIFAR100"):
        local(cfg.train_dataloader, tmp_path)
    assert "cifar-100-python.tar.gz" in cfg.how_to_get["data/cifar100"]


def test_learning_rate_covers_the_epochs(cfg):
    warm_up, cosine = cfg.param_scheduler
    assert warm_up.end == cosine.begin
    assert cosine.end == cfg.train_cfg.max_epochs == 160
