"""One run of the latency sweep: a small topology search on the digits, and what it derives."""

import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from mmengine.config import Config

from evidence.pool import once
from evidence.training import train
from rarts_mm.apis import read_config
from rarts_mm.files import write_text
from rarts_mm.search import LatencyPenalty

CONFIGS = Path(__file__).parents[2] / "configs"


@dataclass(frozen=True)
class Point:
    """What IEEE Access 2022 varies in Table 2; the defaults are its baseline.

    Attributes:
        weight: gamma, per ms of a network as slow as the paper's.
        rate: alpha's learning rate.
        decay: alpha's weight decay.
        batch: images in each of the two batches.
    """

    weight: float = 2e-3
    rate: float = 3e-4
    decay: float = 1e-3
    batch: int = 64

    def __str__(self) -> str:
        return f"weight{self.weight:g}-rate{self.rate:g}-decay{self.decay:g}-batch{self.batch}"


BASELINE = Point()
# In the paper's order; with each the latency in ms that the paper prints for it.
SWEEP: dict[str, dict[float, float]] = {
    "weight": {2e-2: 12.4, 2e-3: 21.7, 2e-4: 23.4},
    "rate": {3e-3: 21.0, 3e-4: 21.7, 3e-5: 23.1},
    "decay": {1e-4: 21.3, 1e-3: 21.7, 1e-2: 22.9},
    "batch": {64: 21.7, 32: 20.1, 16: 16.5},
}
PAPER_MS = 21.7
# 50 epochs over half of CIFAR-10 in batches of 64.
PAPER_STEPS = 391 * 50
TITLES = {
    "weight": "latency weight",
    "rate": "alpha's learning rate",
    "decay": "alpha's weight decay",
    "batch": "batch size",
}


@dataclass(frozen=True)
class Small:
    """What makes the search small.

    Attributes:
        channels, layers, nodes: of the search network; the paper's cells have four nodes.
        size: the digits' side after enlarging, in pixels.
        epochs: of the search.
        data: folder of the digits, or None for the config's.
    """

    channels: int = 4
    layers: int = 3
    nodes: int = 2
    size: int = 8
    epochs: int = 15
    data: str | None = None


@dataclass(frozen=True)
class Task:
    """A search.

    Attributes:
        point: its settings.
        seed: of alpha, the weights, the halves and the batches.
        small: its size.
        table: latency table's file.
        scale: the table's milliseconds times this are the paper's.
        rate_scale: what alpha's learning rate is multiplied by, for a search of fewer steps.
    """

    point: Point
    seed: int
    small: Small
    table: str
    scale: float
    rate_scale: float = 1.0


def base_config(small: Small) -> Config:
    """The search without penalty at the baseline: the recipe of CIFAR-10 on enlarged digits."""
    cifar = read_config(CONFIGS / "rarts_darts_cifar10.py")
    cfg = read_config(CONFIGS / "_base_" / "digits.py")
    backbone = dict(
        type="rarts_mm.DARTSSearchNetwork",
        channels=small.channels,
        layers=small.layers,
        in_channels=1,
        nodes=small.nodes,
    )
    # Two reductions double the channels.
    width = 4 * small.nodes * small.channels
    head = dict(cifar.model.architecture.head.to_dict(), in_channels=width)
    architecture = dict(cifar.model.architecture.to_dict(), backbone=backbone, head=head)
    cfg.model = dict(cifar.model.to_dict(), architecture=architecture)
    cfg.optim_wrapper = cifar.optim_wrapper.to_dict()
    schedule = [dict(s.to_dict(), end=small.epochs) for s in cifar.param_scheduler.auxiliary]
    cfg.param_scheduler = dict(auxiliary=schedule, primary=schedule, alpha=[])
    cfg.train_cfg = dict(
        cifar.train_cfg.to_dict(), max_epochs=small.epochs, val_interval=small.epochs + 1
    )
    for phase in ("train", "val", "test"):
        dataset = cfg[f"{phase}_dataloader"].dataset
        if small.data:
            dataset.data_root = small.data
        for step in dataset.pipeline:
            if step.type == "Resize":
                step.scale = (small.size, small.size)
    cfg.default_hooks.checkpoint.interval = small.epochs
    cfg.model_wrapper_cfg = dict(type="rarts_mm.SearchDistributed")
    cfg.custom_hooks = [dict(type="rarts_mm.ExpectedLatencyHook", interval=small.epochs)]
    cfg.log_level = "ERROR"
    return cfg


def config_of(task: Task) -> Config:
    """The config of a task's search."""
    cfg = base_config(task.small)
    cfg.train_dataloader.batch_size = task.point.batch
    cfg.optim_wrapper.alpha.optimizer.update(
        lr=task.point.rate * task.rate_scale, weight_decay=task.point.decay
    )
    cfg.optim_wrapper.penalty = dict(
        type="LatencyPenalty", latencies=task.table, gamma=task.point.weight * task.scale
    )
    cfg.train_cfg.split = dict(cfg.train_cfg.split, seed=task.seed)
    cfg.randomness = dict(seed=task.seed)
    return cfg


def perform(task: Task, folder: Path) -> dict:
    """Search, unless the result is there; returns what ``result.json`` then holds.

    The result: ``genotype``, ``skip_share``, ``expected`` (ms, by kind of cell, of the final alpha),
    ``steps``, and ``seconds``, the processor time.
    """
    return once(partial(_perform, task, folder), folder)


def _perform(task: Task, folder: Path) -> dict:
    search_py = folder / "search.py"
    write_text(search_py, config_of(task).pretty_text)
    start = time.process_time()
    runner = train(search_py, folder / "search")
    alphas = {n: a.detach() for n, a in runner.model.alpha_parameters().items()}
    genotype = runner.model.space.derive(alphas)
    (penalty,) = runner.optim_wrapper.lagrangian.penalties
    assert isinstance(penalty, LatencyPenalty)
    return dict(
        task=asdict(task),
        genotype=genotype.to_dict(),
        skip_share=genotype.skip_share,
        expected={name: float(ms) for name, ms in penalty.expected(alphas).items()},
        steps=runner.iter,
        seconds=time.process_time() - start,
    )
