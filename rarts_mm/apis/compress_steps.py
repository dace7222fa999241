"""Pruning in several steps, with a fine-tuning (and a search) between them."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config

from rarts_mm.files import write_text

from .config_files import config_text
from .configs import read_config
from .errors import UsageError
from .plans import Ranking, needs_no_scores
from .prune import folder_name
from .targets import SCORES, Target, parse_target


@dataclass
class Way:
    """Where the last pruning of a target starts.

    Attributes:
        config: search config of the network as it is then.
        checkpoint: its search's, or where nothing looks at scores its weights.
        target: what is asked of the last pruning.
        trained: checkpoints of all trainings on the way.
    """

    config: Path
    checkpoint: Path
    target: Target
    trained: list[Path] = field(default_factory=list)


def step_targets(target: Target, steps: int, whole: float | None) -> list[Target]:
    """What each of several prunings is asked for, so that all take the same share of what is there.

    Args:
        target: what is asked of all together.
        steps: how many there are.
        whole: what the unpruned network has, in the target's quantity; None for scores.

    Raises:
        UsageError: ``--ratio auto``, which has no steps.
    """
    if steps == 1:
        return [target]
    if target.auto:
        raise UsageError(
            "--ratio auto removes the scores that are zero, at once; leave --steps out, or give --ratio 0.4"
        )
    if target.quantity == SCORES:
        share = (1 - target.amount) ** (1 / steps)
        return [parse_target(SCORES, f"{1 - share:.6g}")] * steps
    share = target.amount / whole if target.absolute else target.amount
    # Numbers, not shares: what one step left over is not lost.
    amounts = [int(whole * share ** (step / steps)) for step in range(1, steps + 1)]
    return [parse_target(target.quantity, str(amount)) for amount in amounts]


def steps_before_the_last(
    cfg: Config,
    start: Way,
    targets: list[Target],
    folder: Path,
    how: Ranking,
    train: Callable[..., Path],
    prune: Callable[..., None],
    label: str,
) -> Way:
    """Prune, fine-tune and search again until one pruning is left.

    Args:
        cfg: the search's config.
        start: the first search.
        targets: of all prunings.
        folder: for the prunings' folders.
        how: how dimensions are ranked; what looks at no scores is not searched for again.
        train: ``train(name, config, work_dir, load_from)`` returns a checkpoint.
        prune: ``prune(name, config, checkpoint, target, folder)``.
        label: of the target, for the stages' names.
    """
    way = Way(start.config, start.checkpoint, targets[-1])
    for number, target in enumerate(targets[:-1], start=1):
        at = f"step {number} of {len(targets)}"
        step = folder / f"step{number}"
        prune(f"prune {label}, {at}", way.config, way.checkpoint, target, step)
        tuned = train(f"finetune {label}, {at}", step / "pruned.py", step / "finetune", None)
        way.trained.append(tuned)
        way.config = folder / f"search{number + 1}.py"
        write_text(way.config, config_text(_of_pruned(cfg, step / "pruned.py")))
        way.checkpoint = tuned
        if not needs_no_scores(how, [target]):
            name = f"search {label}, step {number + 1} of {len(targets)}"
            work_dir = folder / f"search{number + 1}"
            way.checkpoint = train(name, way.config, work_dir, str(tuned))
            way.trained.append(way.checkpoint)
    return way


def steps_folder(work: Path, target: Target, how: Ranking, steps: int) -> Path:
    """Where the steps of a target are kept."""
    return work / f"{folder_name(target, how)}_{steps}steps"


def _of_pruned(search: Config, pruned: Path) -> Config:
    """The config that searches a pruned network."""
    cfg = copy.deepcopy(search.to_dict())
    cfg["model"]["architecture"] = read_config(pruned).model.to_dict()
    cfg["load_from"] = None
    return Config(cfg)
