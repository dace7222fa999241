"""One run of the comparison: search, prune, fine-tune, test; by the functions of the command lines."""

import contextlib
import itertools
import json
import shutil
import time
import warnings
from bisect import bisect_left
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner, find_latest_checkpoint

from rarts_mm.analysis import count_flops
from rarts_mm.apis import evaluate, load_search, plain_config, prune, read_config, training_config
from rarts_mm.apis import train as train_config
from rarts_mm.apis.configs import prepare_registries
from rarts_mm.apis.input_size import input_size
from rarts_mm.apis.prune import RECORD
from rarts_mm.files import write_text, written_whole
from rarts_mm.registry import ALTERNATIONS, MODELS
from rarts_mm.search import ALPHA, PRIMARY
from rarts_mm.widths import find_units, importance, rank_scores

RESULT = "result.json"
UNPRUNED = "unpruned"

_numbers = itertools.count()


@dataclass(frozen=True)
class Task:
    """A search from the weights of a seed, and what is made of it.

    Attributes:
        alternation: name of the registered alternation, with its default arguments.
        seed: of the initial weights, the halves, the batches and random scores.
        criteria: how the search is pruned; ``'unpruned'`` fine-tunes it whole.
        budgets: what each pruning removes: a kind, ``'scores'`` or ``'parameters'``, and a share of
            all scores, or of the parameters that all scores together stand for.
        test_on: the split whose errors are reported: ``'test'``, or ``'val'`` in the sweep.
        options: further settings of the search's config.
    """

    alternation: str
    seed: int
    criteria: tuple[str, ...]
    budgets: tuple[tuple[str, float], ...]
    test_on: str
    options: dict = field(default_factory=dict)


def perform(task: Task, config: str, folder: Path) -> dict:
    """Run a task, unless its result is there; returns what ``result.json`` then holds.

    The result: ``seconds``, the processor time of the search; ``steps``, of search and fine-tuning;
    and ``models``, one entry for each criterion and budget: error in % on the task's split before and
    after fine-tuning, parameters, FLOPs and the share of each kind of unit that is left.
    """
    result = folder / RESULT
    if result.is_file():
        return json.loads(result.read_text())
    # What an interrupted run left here is of no use: a run takes seconds.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with open(folder / "log.txt", "w") as log, contextlib.ExitStack() as quiet:
        quiet.enter_context(contextlib.redirect_stdout(log))
        quiet.enter_context(contextlib.redirect_stderr(log))
        quiet.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        content = _perform(task, config, folder)
    write_text(result, json.dumps(content, indent=1))
    return content


def _perform(task: Task, config: str, folder: Path) -> dict:
    search_py = folder / "search.py"
    write_text(search_py, search_config(task, config).pretty_text)
    initial = _initial_weights(read_config(search_py), task.seed, folder / "initial.pth")
    start = time.process_time()
    runner = _train(search_py, folder / "search", {"load_from": str(initial)})
    seconds, steps = time.process_time() - start, runner.iter
    checkpoint = find_latest_checkpoint(str(folder / "search"))

    models = []
    for criterion in task.criteria:
        if criterion == UNPRUNED:
            models.append(_unpruned(search_py, checkpoint, folder / UNPRUNED))
            continue
        for kind, share in task.budgets:
            ratio = share
            if kind == "parameters":
                ratio = ratio_for_parameters(search_py, checkpoint, criterion, task.seed, share)
            (result,) = prune(
                search_py,
                checkpoint,
                [ratio],
                out=folder / criterion / f"{kind}_{100 * share:g}",
                criterion=criterion,
                seed=task.seed,
            )
            whole = result.costs.whole
            models.append(
                dict(
                    criterion=criterion,
                    budget=[kind, share],
                    ratio=ratio,
                    parameters=whole.parameters_after,
                    flops=whole.flops_after,
                    left=_left(result.folder),
                    **_finetune(result.folder / "pruned.py", result.folder / "pruned.pth"),
                )
            )
    return dict(task=asdict(task), seconds=seconds, steps=steps, models=models)


def ratio_for_parameters(
    search_py: Path, checkpoint: str, criterion: str, seed: int, share: float
) -> float:
    """The smallest share of the scores that takes this share of the prunable parameters along."""
    search = load_search(search_py, checkpoint)
    scores = importance(search.model.kept, criterion, seed)
    units, _ = find_units(search.model.kept, search.model.space.include)
    total = sum(unit.size for unit in units)

    def removed(count: int) -> int:
        kept = rank_scores(scores, count / total)
        return sum((u.size - len(kept[u.name])) * u.parameters_per_score for u in units)

    wanted = share * sum(unit.size * unit.parameters_per_score for unit in units)
    # More scores never take fewer parameters along; each unit keeps one.
    counts = range(1, total - len(units) + 1)
    return counts[bisect_left(counts, wanted, key=removed)] / total


def search_config(task: Task, config: str) -> Config:
    """The config of a task's search."""
    rule = ALTERNATIONS.get(task.alternation)
    cfg = read_config(config, {"log_level": "ERROR", **task.options})
    cfg.model.networks = 2 if PRIMARY in rule.players else 1
    # Not merged: arguments of the config's own alternation are not this one's.
    cfg.optim_wrapper.alternation = dict(type=task.alternation)
    for key in {"lam", "beta"} - rule.uses:
        cfg.optim_wrapper.pop(key, None)
    if ALPHA not in rule.players:
        cfg.optim_wrapper.penalty = None
        cfg.optim_wrapper.pop("alpha", None)
    cfg.train_cfg.split = dict(cfg.train_cfg.split, seed=task.seed)
    cfg.randomness = dict(cfg.get("randomness") or {}, seed=task.seed)
    cfg.test_dataloader.dataset.data_prefix = task.test_on
    cfg.custom_hooks = []
    return cfg


def _initial_weights(search: Config, seed: int, path: Path) -> Path:
    """Write the weights that every search of a seed starts from."""
    cfg = plain_config(search, "baseline")
    prepare_registries(cfg)
    torch.manual_seed(seed)
    network = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    network.init_weights()
    with written_whole(path) as temporary:
        torch.save(dict(state_dict=network.state_dict()), temporary)
    return path


def _unpruned(search_py: Path, checkpoint: str, folder: Path) -> dict:
    """Fine-tune the searched network whole: the same steps and schedule, but for the pruning."""
    search = load_search(search_py, checkpoint)
    with written_whole(folder / "whole.pth") as temporary:
        torch.save(dict(state_dict=search.model.kept.state_dict()), temporary)
    cfg = plain_config(search.cfg, "finetune")
    cfg.load_from = str(folder / "whole.pth")
    cfg.work_dir = str(folder / "finetune")
    write_text(folder / "whole.py", cfg.pretty_text)
    cost = count_flops(search.model.kept, input_size(search.cfg))
    return dict(
        criterion=UNPRUNED,
        budget=None,
        ratio=0.0,
        parameters=cost.total_parameters,
        flops=cost.total,
        left=dict(attention=1.0, mlp=1.0),
        **_finetune(folder / "whole.py", folder / "whole.pth"),
    )


def _finetune(config: Path, weights: Path) -> dict:
    """Test, fine-tune and test again."""
    before = evaluate(_named(read_config(config)), weights, config.parent / "before")
    start = time.process_time()
    runner = _train(config)
    seconds = time.process_time() - start
    return dict(
        error_before=_error(before),
        error=_error(runner.test()),
        finetune_seconds=seconds,
        finetune_steps=runner.iter,
    )


def _train(config: Path, work_dir: Path | None = None, options: dict | None = None) -> Runner:
    cfg = training_config(config, work_dir=work_dir and str(work_dir), options=options)
    return train_config(_named(cfg))


def _left(folder: Path) -> dict[str, float]:
    """The share of the dimensions that is left, by kind of unit."""
    units = json.loads((folder / RECORD).read_text())["units"].values()
    kinds = sorted({unit["kind"] for unit in units})
    return {
        kind: sum(len(unit["kept"]) for unit in units if unit["kind"] == kind)
        / sum(unit["size"] for unit in units if unit["kind"] == kind)
        for kind in kinds
    }


def _named(cfg: Config) -> Config:
    # MMEngine keeps one logger and one visualizer per name for the whole process, and its own names
    # are as exact as a second.
    cfg.experiment_name = f"run{next(_numbers)}"
    # Formatted for nobody: it would take a third of the whole comparison's time.
    return Config(cfg._cfg_dict, filename=cfg.filename, format_python_code=False)


def _error(metrics: dict[str, float]) -> float:
    return 100.0 - float(metrics["accuracy/top1"])
