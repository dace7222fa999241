"""The runs of the comparison of pruners: searches, and what is pruned and trained from them."""

import math
import time
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType

from evidence.pool import once
from evidence.training import (
    lengths,
    search_config,
    train,
    train_and_test,
    write_initial_weights,
    write_whole,
)
from rarts_mm.analysis import count_flops
from rarts_mm.analysis.width_costs import WidthCosts
from rarts_mm.apis import Extras, Ranking, load_search, parse_target, prune, read_config
from rarts_mm.apis.finding import checkpoint_in
from rarts_mm.apis.input_size import input_size
from rarts_mm.apis.search_checkpoint import Search
from rarts_mm.apis.targets import FLOPS
from rarts_mm.files import write_text

# How pruned networks are trained: the config that is written for it, and its options.
FINETUNE, DISTILL, TAS, SCRATCH = "finetune", "distill", "tas", "scratch"
TRAININGS = MappingProxyType(
    {
        FINETUNE: ("pruned.py", {}),
        # T = 4 and both weights 1, as in the thesis.
        DISTILL: ("distill.py", {}),
        # (1 - a) CE + a T^2 KL with a = 0.9 and T = 4.
        TAS: ("distill.py", {"model.task_weight": 0.1, "model.kd_weight": 14.4}),
        SCRATCH: ("scratch.py", {}),
    }
)


@dataclass(frozen=True)
class SearchTask:
    """A training on two halves from the weights of a seed, with alpha or without.

    Attributes:
        config: of the network's search.
        alternation: name of the registered alternation, with its default arguments.
        seed: of the initial weights, the halves and the batches.
        test_on: the split whose errors are reported.
        options: further settings of the config.
        whole: whether the network is also fine-tuned without pruning, the teacher of the others.
    """

    config: str
    alternation: str
    seed: int
    test_on: str
    options: dict = field(default_factory=dict)
    whole: bool = False


@dataclass(frozen=True)
class PruningTask:
    """A searched network, pruned to a budget and trained.

    Attributes:
        search: folder of the :class:`SearchTask`.
        teacher: folder of one with ``whole``, for distillation; None without.
        share: the budget are the FLOPs that removing this share of every layer would leave.
        criterion, scope, seed: how it is pruned; see :class:`~rarts_mm.apis.Ranking`.
        trainings: keys of ``TRAININGS``.
    """

    search: str
    teacher: str | None
    share: float
    criterion: str
    scope: str
    seed: int
    trainings: tuple[str, ...]


def options_of(
    config: str | Path, data: str | None, epochs: int | None, finetune_epochs: int | None
) -> dict:
    """Options of :func:`evidence.training.lengths`, the search's optimiser for fine-tuning, and a schedule for
    training from scratch.

    From scratch takes as many steps as search and fine-tuning together, rounded up to epochs: an epoch
    of the search takes a batch from both halves in each step.
    """
    options = lengths(config, data, epochs, finetune_epochs)
    options["finetune.optim_wrapper"] = read_config(config).optim_wrapper.weights.to_dict()
    cfg = read_config(config, options)
    tuning = cfg.finetune.train_cfg.max_epochs
    length = math.ceil(cfg.train_cfg.max_epochs / 2) + tuning
    baseline = dict(
        train_cfg=dict(type="EpochBasedTrainLoop", max_epochs=length, val_interval=length + 1),
        param_scheduler=[dict(s, end=length) for s in cfg.param_scheduler],
        default_hooks=dict(
            cfg.default_hooks.to_dict(), checkpoint=dict(type="CheckpointHook", interval=length)
        ),
    )
    return options | {"baseline": baseline}


def run_search(task: SearchTask, folder: Path) -> dict:
    """Search, unless the result is there.

    Returns:
        ``task``; ``seconds``, the processor time; ``steps``; and for a ``whole`` network what
        :func:`evidence.training.train_and_test` says of it, ``parameters`` and ``flops``.
    """
    return once(partial(_search, task, folder), folder)


def run_pruning(task: PruningTask, folder: Path) -> dict:
    """Prune and train, unless the result is there.

    Returns:
        ``task``; ``budget``, ``flops`` and ``parameters`` of the model; ``removed``, the share of the
        scores; and ``trainings``: name -> what :func:`evidence.training.train_and_test` says.
    """
    return once(partial(_prune, task, folder), folder)


def uniform_flops(search: Search, share: float) -> int:
    """FLOPs of the model if every layer lost a share of its dimensions, and kept one at least."""
    cost = WidthCosts(search.network).flops(input_size(search.cfg))
    return cost({name: max(1, size - round(share * size)) for name, size in cost.sizes.items()})


def _search(task: SearchTask, folder: Path) -> dict:
    search_py = folder / "search.py"
    cfg = search_config(task.config, task.alternation, task.seed, task.test_on, task.options)
    write_text(search_py, cfg.pretty_text)
    initial = write_initial_weights(read_config(search_py), task.seed, folder / "initial.pth")
    start = time.process_time()
    runner = train(search_py, folder / "search", {"load_from": str(initial)})
    content = dict(task=asdict(task), seconds=time.process_time() - start, steps=runner.iter)
    if task.whole:
        search = _load(folder)
        config, _ = write_whole(search, folder)
        cost = count_flops(search.model.kept, input_size(search.cfg))
        content |= dict(
            parameters=cost.total_parameters, flops=cost.total, **train_and_test(config)
        )
    return content


def _prune(task: PruningTask, folder: Path) -> dict:
    source = Path(task.search)
    search = _load(source)
    budget = uniform_flops(search, task.share)
    (pruned,) = prune(
        source / "search.py",
        search.checkpoint,
        [parse_target(FLOPS, str(budget))],
        out=folder / "pruned",
        how=Ranking(
            criterion=task.criterion,
            # The others draw nothing.
            seed=task.seed if task.criterion == "random" else 0,
            scope=task.scope,
            of="model",
        ),
        extras=Extras(distill=_teacher(task), scratch=SCRATCH in task.trainings),
    )
    whole = pruned.costs.whole
    return dict(
        task=asdict(task),
        budget=budget,
        flops=whole.flops_after,
        parameters=whole.parameters_after,
        removed=pruned.plan.removed,
        trainings={name: _train(pruned.folder, name) for name in task.trainings},
    )


def _teacher(task: PruningTask) -> tuple[str, str] | None:
    if not {DISTILL, TAS}.intersection(task.trainings):
        return None
    folder = Path(task.teacher)
    return str(folder / "whole.py"), str(_latest(folder / "finetune"))


def _train(folder: Path, name: str) -> dict:
    config, options = TRAININGS[name]
    return train_and_test(folder / config, folder.parent / name, options)


def _load(folder: Path) -> Search:
    return load_search(folder / "search.py", _latest(folder / "search"))


def _latest(folder: Path) -> Path:
    return checkpoint_in(folder)
