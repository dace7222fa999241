"""One run of the comparison: search, prune, fine-tune, test; by the functions of the command lines."""

import json
import time
from bisect import bisect_left
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from mmengine.config import Config

from evidence.pool import once
from evidence.training import finetune, search_config, train, write_initial_weights, write_whole
from rarts_mm.analysis import count_flops
from rarts_mm.apis import Ranking, load_search, prune, read_config
from rarts_mm.apis.finding import checkpoint_in
from rarts_mm.apis.input_size import input_size
from rarts_mm.apis.prune import RECORD
from rarts_mm.files import write_text
from rarts_mm.widths import importance, rank_scores

UNPRUNED = "unpruned"


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


def perform(task: Task, folder: Path, config: str) -> dict:
    """Run a task, unless its result is there; returns what ``result.json`` then holds.

    The result: ``seconds``, the processor time of the search; ``steps``, of search and fine-tuning;
    and ``models``, one entry for each criterion and budget: error in % on the task's split before and
    after fine-tuning, parameters, FLOPs and the share of each kind of unit that is left.
    """
    return once(partial(_perform, task, config, folder), folder)


def _perform(task: Task, config: str, folder: Path) -> dict:
    search_py = folder / "search.py"
    write_text(search_py, config_of(task, config).pretty_text)
    initial = write_initial_weights(read_config(search_py), task.seed, folder / "initial.pth")
    start = time.process_time()
    runner = train(search_py, folder / "search", {"load_from": str(initial)})
    seconds, steps = time.process_time() - start, runner.iter
    checkpoint = checkpoint_in(folder / "search")

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
                how=Ranking(criterion=criterion, seed=task.seed if criterion == "random" else 0),
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
                    **finetune(result.folder / "pruned.py", result.folder / "pruned.pth"),
                )
            )
    return dict(task=asdict(task), seconds=seconds, steps=steps, models=models)


def ratio_for_parameters(
    search_py: Path, checkpoint: str, criterion: str, seed: int, share: float
) -> float:
    """The smallest share of the scores that takes this share of the prunable parameters along."""
    search = load_search(search_py, checkpoint)
    scores = importance(search.network, criterion, seed, search.alphas)
    units, _ = search.model.space.units(search.network)
    total = sum(unit.size for unit in units)

    def removed(count: int) -> int:
        kept = rank_scores(scores, count / total)
        return sum((u.size - len(kept[u.name])) * u.parameters_per_score for u in units)

    wanted = share * sum(unit.size * unit.parameters_per_score for unit in units)
    # More scores never take fewer parameters along; each unit keeps one.
    counts = range(1, total - len(units) + 1)
    return counts[bisect_left(counts, wanted, key=removed)] / total


def config_of(task: Task, config: str) -> Config:
    """The config of a task's search."""
    return search_config(config, task.alternation, task.seed, task.test_on, task.options)


def _unpruned(search_py: Path, checkpoint: str, folder: Path) -> dict:
    """Fine-tune the searched network whole: the same steps and schedule, but for the pruning."""
    search = load_search(search_py, checkpoint)
    config, weights = write_whole(search, folder)
    cost = count_flops(search.model.kept, input_size(search.cfg))
    return dict(
        criterion=UNPRUNED,
        budget=None,
        ratio=0.0,
        parameters=cost.total_parameters,
        flops=cost.total,
        left=dict(attention=1.0, mlp=1.0),
        **finetune(config, weights),
    )


def _left(folder: Path) -> dict[str, float]:
    """The share of the dimensions that is left, by kind of unit."""
    units = json.loads((folder / RECORD).read_text())["units"].values()
    kinds = sorted({unit["kind"] for unit in units})
    return {
        kind: sum(len(unit["kept"]) for unit in units if unit["kind"] == kind)
        / sum(unit["size"] for unit in units if unit["kind"] == kind)
        for kind in kinds
    }
