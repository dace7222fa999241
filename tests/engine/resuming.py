"""Searches that are cut off and resumed, and what their checkpoints must have in common."""

import copy
from pathlib import Path

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer

from tests import tiny

SCHEDULE = dict(
    type="CosineAnnealingLR",
    eta_min=1e-4,
    by_epoch=True,
    convert_to_iter_based=True,
    begin=0,
    end=2,
)
ITERATIONS = dict(by_epoch=False, interval=2)
SINGLE = ("Joint", "DARTS1", "DARTS2")
# Random draws everywhere: in the samples, in the batches, in the networks.
PIPELINE = [
    dict(type="mmcv.RandomFlip", prob=0.5, direction="horizontal"),
    dict(type="mmpretrain.RandomCrop", crop_size=28, padding=4),
    dict(type="mmpretrain.ColorJitter", brightness=0.3, contrast=0.3),
    dict(type="mmpretrain.PackInputs"),
]
NOISE = dict(
    architecture=dict(
        backbone=dict(drop_path_rate=0.4, drop_rate=0.1),
        head=dict(loss=dict(type="CrossEntropyLoss", use_soft=True)),
    ),
    augments=dict(augments=dict(type="Mixup", alpha=0.8)),
)


class CutOff(Hook):
    """The power fails in the middle of an epoch."""

    priority = "LOWEST"

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if runner.iter + 1 == self.iteration:
            raise KeyboardInterrupt


def data(number: int = 20, batch_size: int = 4, noisy: bool = False, **kwargs) -> dict:
    cfg = tiny.loader(number, batch_size, **kwargs)
    if noisy:
        cfg["dataset"]["pipeline"] = copy.deepcopy(PIPELINE)
    return cfg


def search(
    work_dir: Path,
    amp: dict | None = None,
    alternation: str = "RARTS",
    noisy: bool = False,
    loop: dict | None = None,
    wrapper: dict | None = None,
    checkpoint: dict | None = None,
    epochs: int = 2,
    **kwargs,
):
    """The Runner of a small search with a schedule, clipping and a penalty."""
    noise = NOISE if noisy else {}
    preprocessor = tiny.preprocessor()
    if noisy:
        preprocessor["batch_augments"] = noise["augments"]
    split = dict(seed=3) | (loop or {}).get("split", {})
    settings = dict(
        model=dict(
            type="rarts_mm.SearchModel",
            architecture=tiny.architecture(**noise.get("architecture", {})),
            networks=1 if alternation in SINGLE else 2,
        ),
        data_preprocessor=preprocessor,
        data=data(noisy=noisy),
        train_cfg=dict(type="rarts_mm.SearchLoop", max_epochs=epochs)
        | (loop or {})
        | dict(split=split),
        optim_wrapper=dict(
            type="rarts_mm.RARTSOptimWrapper",
            constructor="rarts_mm.RARTSOptimWrapperConstructor",
            weights=tiny.weights_config(
                clip_grad=dict(max_norm=1.0), paramwise_cfg=dict(norm_decay_mult=0.0)
            ),
            penalty=dict(type="L1Penalty", gamma=1e-3),
            alternation=dict(type=alternation),
            amp=amp,
        )
        | (wrapper or {}),
        param_scheduler=[SCHEDULE],
        default_hooks=dict(
            logger=dict(type="LoggerHook", interval=1),
            checkpoint=dict(type="CheckpointHook", interval=1) | (checkpoint or {}),
        ),
    )
    return tiny.runner(work_dir, **{**settings, **kwargs})


def run(work_dir: Path, **kwargs):
    runner = search(work_dir, **kwargs)
    runner.train()
    return runner


def load(path: Path) -> dict:
    return torch.load(path, weights_only=False)


def assert_equal(found, wanted, where: str = "") -> None:
    """Nested states, to the last bit."""
    assert type(found) is type(wanted), where
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), where
        for key in wanted:
            assert_equal(found[key], wanted[key], f"{where}.{key}")
    elif isinstance(wanted, list | tuple):
        assert len(found) == len(wanted), where
        for i, (one, other) in enumerate(zip(found, wanted, strict=True)):
            assert_equal(one, other, f"{where}[{i}]")
    elif isinstance(wanted, torch.Tensor):
        assert found.dtype == wanted.dtype, where
        assert torch.equal(found, wanted), where
    elif isinstance(wanted, np.ndarray):
        assert found.dtype == wanted.dtype, where
        assert np.array_equal(found, wanted), where
    elif isinstance(wanted, HistoryBuffer):
        assert_equal(found.data, wanted.data, where)
    else:
        assert found == wanted, where


def logged(checkpoint: dict) -> dict:
    """All that was logged, apart from how long it took."""
    scalars = checkpoint["message_hub"]["log_scalars"]
    return {k: v for k, v in scalars.items() if not k.endswith(("time", "memory"))}


def assert_same_search(parts: Path, whole: Path) -> None:
    """Two checkpoints hold the same search: alpha, u, w, optimisers, schedulers, logs."""
    one, other = load(parts), load(whole)
    for key in ("state_dict", "optimizer", "param_schedulers", "rarts_mm"):
        assert_equal(one[key], other[key], key)
    assert "train/loss" in logged(other)
    assert_equal(logged(one), logged(other), "logs")
    for key in ("epoch", "iter"):
        assert one["meta"][key] == other["meta"][key]
