"""One run of the comparison: search, derive, retrain, test; by the functions of the command lines."""

import time
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from evidence.pool import once
from evidence.training import search_config, train, train_and_test
from rarts_mm.apis import derive, read_config
from rarts_mm.apis.config_files import config_text
from rarts_mm.apis.retraining import network_costs, retraining_config
from rarts_mm.cells.genotype import Genotype
from rarts_mm.files import write_text
from topologies.random_cells import random_genotype

RANDOM_SEARCH, RANDOM_CELLS = "random search", "random cells"
INDICES = "dataset.indices"


@dataclass(frozen=True)
class Task:
    """A search, and the retraining of what it finds.

    Attributes:
        method: name of a registered alternation, with its default arguments, or ``'random search'``.
        seed: of the weights, alpha, the halves, the batches and the random cells.
        test_on: the split whose errors are reported: ``'test'``, or ``'val'`` in the sweep.
        search: further settings of the search's config.
        retraining: further settings of the retraining's config.
        candidates: of the random search.
        candidate_epochs: for which each of them is trained on one half.
    """

    method: str
    seed: int
    test_on: str
    search: dict = field(default_factory=dict)
    retraining: dict = field(default_factory=dict)
    candidates: int = 0
    candidate_epochs: int = 0


def perform(task: Task, folder: Path, config: str, network: str) -> dict:
    """Run a task, unless its result is there; returns what ``result.json`` then holds.

    The result: ``seconds``, the processor time of the search; ``steps``; and ``networks``, one entry
    for each method that the run is of (a random search's first candidate stands for random cells):
    ``genotype``, ``skip_share``, ``parameters``, ``flops``, ``error`` in % on the task's split after
    retraining, ``finetune_seconds`` and ``finetune_steps`` of the retraining.

    Args:
        task: what to run.
        folder: for its files.
        config: the search's.
        network: the retraining's.
    """
    run = _random_search if task.method == RANDOM_SEARCH else _search
    return once(partial(run, task, folder, config, network), folder)


def config_of(task: Task, config: str) -> Config:
    """The config of a task's search."""
    return search_config(config, task.method, task.seed, task.test_on, task.search)


def retraining_options(task: Task) -> dict[str, Any]:
    """What all retrainings of a task share: the same seed, so that only the cells differ."""
    return {
        "log_level": "ERROR",
        "randomness.seed": task.seed,
        "test_dataloader.dataset.data_prefix": task.test_on,
        **task.retraining,
    }


def _search(task: Task, folder: Path, config: str, network: str) -> dict:
    search_py = folder / "search.py"
    write_text(search_py, config_of(task, config).pretty_text)
    start = time.process_time()
    runner = train(search_py, folder / "search")
    seconds = time.process_time() - start
    derived = derive(
        folder / "search", network, out=folder / "derived", options=retraining_options(task)
    )
    found = dict(
        method=task.method,
        **_describe(derived.architecture, derived.costs),
        **train_and_test(derived.folder / "retrain.py", folder / "retrain"),
    )
    return dict(task=asdict(task), seconds=seconds, steps=runner.iter, networks=[found])


def _random_search(task: Task, folder: Path, config: str, network: str) -> dict:
    generator = np.random.default_rng(task.seed)
    search = read_config(config, task.search)
    nodes = search.model.architecture.backbone.nodes
    halves = _halves(search, generator)
    genotypes = [random_genotype(nodes, generator) for _ in range(task.candidates)]
    tried = []
    for number, genotype in enumerate(genotypes):
        options = _on_halves(halves, task.candidate_epochs)
        cfg = retraining_config(genotype, network, search, retraining_options(task) | options)
        tried.append(_train(cfg, folder / f"candidate{number}"))
    best = min(range(len(tried)), key=lambda number: tried[number]["error"])
    networks = []
    for method, genotype in ((RANDOM_SEARCH, genotypes[best]), (RANDOM_CELLS, genotypes[0])):
        cfg = retraining_config(genotype, network, search, retraining_options(task))
        networks.append(
            dict(
                method=method,
                **_describe(genotype, network_costs(cfg, search)),
                **_train(cfg, folder / method.replace(" ", "_")),
            )
        )
    return dict(
        task=asdict(task),
        seconds=sum(candidate["finetune_seconds"] for candidate in tried),
        steps=sum(candidate["finetune_steps"] for candidate in tried),
        candidates=[
            dict(genotype=genotype.to_dict(), error=candidate["error"])
            for genotype, candidate in zip(genotypes, tried, strict=True)
        ],
        networks=networks,
    )


def _halves(search: Config, generator: np.random.Generator) -> list[list[int]]:
    """Indices of the images that candidates are trained on, and of those that choose among them."""
    dataset = search.train_dataloader.dataset
    number = sum(1 for _ in Path(dataset.data_root, dataset.data_prefix).glob("*/*"))
    order = generator.permutation(number).tolist()
    return [sorted(order[: number // 2]), sorted(order[number // 2 :])]


def _on_halves(halves: list[list[int]], epochs: int) -> dict[str, Any]:
    """Options: train on one half of the training images for some epochs, test on the other."""
    return {
        f"train_dataloader.{INDICES}": halves[0],
        f"test_dataloader.{INDICES}": halves[1],
        "test_dataloader.dataset.data_prefix": "train",
        **lengths(epochs),
    }


def lengths(epochs: int) -> dict[str, Any]:
    """Options of a retraining for some epochs, without a look at validation."""
    return {
        "train_cfg.max_epochs": epochs,
        "train_cfg.val_interval": epochs + 1,
        "param_scheduler.0.end": epochs,
        "default_hooks.checkpoint.interval": epochs,
    }


def _train(cfg: Config, folder: Path) -> dict:
    write_text(folder / "retrain.py", config_text(cfg))
    return train_and_test(folder / "retrain.py", folder / "retrain")


def _describe(genotype: Genotype, costs: dict[str, Any]) -> dict[str, Any]:
    return dict(
        genotype=genotype.to_dict(),
        skip_share=genotype.skip_share,
        parameters=costs["parameters"],
        flops=costs["flops"],
    )
