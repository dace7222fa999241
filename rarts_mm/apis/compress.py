"""The whole chain: baseline, search, prune, fine-tune, test."""

import json
import shlex
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from mmengine.config import Config

from rarts_mm.analysis import ResultsTable
from rarts_mm.analysis.tables import COUNT
from rarts_mm.checkpoint_reader import is_trusting
from rarts_mm.engine import has_saved
from rarts_mm.files import digest, write_text
from rarts_mm.invocation import words
from rarts_mm.locks import locked

from .compress_stages import (
    choose_stage,
    control_plan,
    costs_stage,
    evaluate_stage,
    prune_stage,
    train_stage,
)
from .compress_steps import Way, step_targets, steps_before_the_last, steps_folder
from .config_files import config_text
from .configs import plain_config, read_config, require_search
from .errors import UsageError
from .input_size import input_size
from .iterations import RECIPES, refuse_endless
from .max_drop import MaxDrop
from .metrics import headline, metric_format
from .plans import Ranking, check_plans
from .preflight import check_files, require_test
from .prune import Extras, folder_name
from .stages import Stages
from .targets import SCORES, Target, parse_target
from .validation import check_search


def compress(
    config: str | Path,
    targets: Sequence[Target | float] | MaxDrop,
    checkpoint: str | Path | None = None,
    work_dir: str | Path | None = None,
    control: bool = False,
    how: Ranking | None = None,
    distill: bool = False,
    scratch: bool = False,
    steps: int = 1,
    options: dict | None = None,
    verbose: bool = False,
) -> ResultsTable:
    """Run the chain on one config; interrupted, the same call goes on where it stopped.

    One baseline and one search serve all targets, also those of later calls.

    Args:
        config: a search config.
        targets: what is asked for; a number is a share of the scores to remove, in (0, 1); or how far a
            validation metric may fall, from which the share is found after the search.
        checkpoint: the trained, unpruned model. Without it the config's ``load_from`` is taken, and
            without that a baseline is trained.
        work_dir: folder for everything; defaults to ``work_dirs/compress_<name of the config>``.
        control: also train the baseline on, for as many steps as search and fine-tuning took.
        how: how dimensions are ranked and kept.
        distill: also fine-tune with the baseline as the teacher.
        scratch: also train the pruned architectures from random weights.
        steps: how many prunings each target is reached in, with a fine-tuning after each, and a new search
            before the next where it ranks by scores.
        options: settings of the config to override.
        verbose: show all that the stages print, which otherwise is in a log file of each.

    Returns:
        The table of results, also written as ``results.json`` and ``results.md``.
    """
    how = how or Ranking()
    max_drop = targets if isinstance(targets, MaxDrop) else None
    given = [] if max_drop else targets
    targets = list(dict.fromkeys(parse_target(SCORES, target) for target in given))
    cfg = read_config(config, options)
    require_search(cfg, str(config))
    require_test(cfg)
    check_search(cfg, "baseline", "finetune", complete=True)
    wholes = check_plans(cfg, targets, how)
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise UsageError(f"--steps {steps!r}: at least one pruning is needed")
    if max_drop and steps > 1:
        raise UsageError(
            f"--steps {steps} divides what is asked for, which --max-drop finds after the search; give "
            "--ratio or a budget"
        )
    # Of every target: an impossible one must show now.
    stepwise = {t: step_targets(t, steps, wholes.get(t)) for t in targets}
    refuse_endless(cfg, phases=("train", "val", "test"))
    for recipe in RECIPES:
        refuse_endless(plain_config(cfg, recipe), recipe, ("train", "val", "test"))
    if how.input_size is None:
        # Unknown, it would be asked for after hours of training.
        input_size(cfg)
    work = Path(work_dir or Path("work_dirs") / f"compress_{Path(config).stem}")
    checkpoint = checkpoint or cfg.get("load_from")
    if checkpoint is None:
        check_files(cfg, ("train", "val", "test"))
    else:
        check_files(
            Config(dict(cfg.to_dict(), load_from=str(checkpoint))), ("train", "val", "test")
        )
    with locked(work):
        stages = Stages(
            work / "stages.json",
            dict(
                config=cfg.pretty_text,
                checkpoint=None if checkpoint is None else _identity(str(checkpoint)),
            ),
            verbose,
        )
        return _chain(
            str(config),
            cfg,
            stages,
            max_drop or targets,
            checkpoint,
            control,
            how,
            distill,
            scratch,
            stepwise,
        )


def _chain(
    config: str,
    cfg: Config,
    stages: Stages,
    targets: Sequence[Target] | MaxDrop,
    checkpoint: str | Path | None,
    control: bool,
    how: Ranking,
    distill: bool,
    scratch: bool,
    stepwise: Mapping[Target, list[Target]],
) -> ResultsTable:
    work = stages.path.parent
    # Written out, so that every stage can be repeated by hand.
    search_py, baseline_py = work / "search.py", work / "baseline.py"
    write_text(search_py, config_text(cfg))
    write_text(baseline_py, config_text(plain_config(cfg, "baseline")))

    def test(name: str, config: Path, weights: str | Path) -> dict[str, float]:
        command = _command("test", config, weights)
        return stages.run(f"test: {name}", command, evaluate_stage, config, weights, work / "tests")

    if checkpoint is None:
        checkpoint = _train(stages, "baseline", baseline_py, work / "baseline")
    else:
        # A checkpoint that does not fit must show before the search, not after it.
        test("baseline", baseline_py, checkpoint)
    searched = _train(stages, "search", search_py, work / "search", load_from=str(checkpoint))

    if isinstance(targets, MaxDrop):
        flags = [*targets.arguments, *how.arguments]
        chosen = stages.run(
            " ".join(flags).replace("--", ""),
            _command("prune", search_py, searched, *flags),
            choose_stage,
            search_py,
            searched,
            targets,
            how,
            work / "max_drop",
        )
        targets = [parse_target(SCORES, chosen["ratio"])]
        stepwise = {target: [target] for target in targets}

    def train(name: str, config: Path, work_dir: Path, load_from: str | None) -> Path:
        return _train(stages, name, config, work_dir, load_from)

    def prune(
        name: str,
        config: Path,
        weights: Path,
        target: Target,
        folder: Path,
        extras: Extras | None = None,
    ) -> None:
        flags = [*target.arguments, *how.arguments, "--out", str(folder)]
        flags += ["--distill", *extras.distill] if extras and extras.distill else []
        flags += ["--scratch"] if extras and extras.scratch else []
        command = _command("prune", config, weights, *flags)
        given = (config, weights, target, folder, how, extras or Extras())
        stages.run(name, command, prune_stage, *given)

    models = {"baseline": (baseline_py, checkpoint)}
    for target in targets:
        folder = work / folder_name(target, how)
        name = target.label + how.suffix.replace("_", " ")
        way = Way(search_py, searched, target)
        if len(stepwise[target]) > 1:
            within = steps_folder(work, target, how, len(stepwise[target]))
            name += f" in {len(stepwise[target])} steps"
            way = steps_before_the_last(cfg, way, stepwise[target], within, how, train, prune, name)
            folder = within / "last"
        extras = Extras((str(baseline_py), str(checkpoint)) if distill else None, scratch)
        besides = [w for w, wanted in (("distill", distill), ("scratch", scratch)) if wanted]
        title = " with ".join([f"prune {name}", *besides])
        prune(title, way.config, way.checkpoint, way.target, folder, extras)
        pruned_py = folder / "pruned.py"
        tuned = _train(stages, f"finetune {name}", pruned_py, folder / "finetune")
        models[f"pruned {name}"] = (pruned_py, folder / "pruned.pth")
        models[f"pruned {name}, fine-tuned"] = (pruned_py, tuned)
        if distill:
            taught = _train(stages, f"distill {name}", folder / "distill.py", folder / "distill")
            models[f"pruned {name}, distilled"] = (pruned_py, taught)
        if scratch:
            fresh = _train(stages, f"scratch {name}", folder / "scratch.py", folder / "scratch")
            models[f"pruned {name}, from scratch"] = (pruned_py, fresh)
    measured = dict(models)
    notes = [
        f"config: {config}; the model's name says what was asked for: a share alone is that of the "
        "scores that were removed, params and flops are what may remain"
    ]
    if control:
        trained = [searched, *way.trained, tuned]
        plan = control_plan(baseline_py, trained, work / "control.py")
        trained_on = _train(
            stages, "control", work / "control.py", work / "control", load_from=str(checkpoint)
        )
        models["baseline, trained on"] = (work / "control.py", trained_on)
        more, rounding = f"{plan['epochs']} more epochs", ", rounded up to whole epochs"
        if plan["epochs"] is None:
            more, rounding = f"{plan['steps']} more iterations", ""
        notes.append(
            f"baseline, trained on: {more}, as many steps as the "
            f"{'search and one fine-tuning' if len(trained) == 2 else 'trainings of one target'} "
            f"({plan['steps']}){rounding}"
        )

    models, with_latency = _with_earlier(work, models, measured)
    measured = {name: models[name] for name in with_latency}
    metrics = {name: test(name, c, p) for name, (c, p) in models.items()}
    costs = stages.run(
        "costs",
        "parameters, FLOPs and latency",
        costs_stage,
        measured,
        how.input_size,
        key=f"costs: {', '.join(measured)}",
    )
    table = _table(models, metrics, costs, notes)
    table.print()
    table.write(work / "results")
    print(f"\nwrote {work}/results.md and results.json; models:")
    for name, (model_config, weights) in measured.items():
        print(f"  {name}: {model_config} {weights}")
    return table


def _identity(checkpoint: str) -> str:
    return digest(checkpoint) if Path(checkpoint).is_file() else checkpoint


def _command(tool: str, *arguments: object) -> str:
    """The command that does by hand what a stage does."""
    trust = ["--trust-checkpoint"] if is_trusting() else []
    return shlex.join([*words(tool), *map(str, arguments), *trust])


def _train(
    stages: Stages, name: str, config: Path, work_dir: Path, load_from: str | None = None
) -> Path:
    options = {} if load_from is None else {"load_from": load_from}
    resume = has_saved(work_dir)
    flags = ["--cfg-options", f"load_from={load_from}"] if options else []
    flags = ["--resume"] if resume else flags
    command = _command("train", config, "--work-dir", work_dir, *flags)
    result = stages.run(name, command, train_stage, config, work_dir, resume, options)
    # By its name alone: the folder may have been moved or copied since.
    return work_dir / Path(result["checkpoint"]).name


def _with_earlier(work: Path, models: dict, measured: Collection[str]) -> tuple[dict, list[str]]:
    """The models of this call and of earlier ones in the same folder, of other targets.

    All are in one table, with latencies that were measured side by side.

    Returns:
        Name -> config and weights, the baseline first and this call's last; and the names of those that
        have a latency of their own.
    """
    path = work / "models.json"
    known = {}
    # Another version's, or none.
    with suppress(OSError, ValueError, TypeError, KeyError):
        for name, one in json.loads(path.read_text()).items():
            paths = work / one["config"], work / one["weights"]
            if name not in models and all(each.is_file() for each in paths):
                known[name] = (*paths, bool(one["measured"]))
    own = {name: (*paths, name in measured) for name, paths in models.items()}
    every = {"baseline": own.pop("baseline"), **known, **own}
    record = {
        name: dict(config=_beside(work, config), weights=_beside(work, weights), measured=has)
        for name, (config, weights, has) in every.items()
    }
    write_text(path, json.dumps(record, indent=1))
    paths = {name: (config, weights) for name, (config, weights, _) in every.items()}
    return paths, [name for name, (*_, has) in every.items() if has]


def _beside(work: Path, path: str | Path) -> str:
    """A path as seen from a folder that may be moved; as it is where it lies elsewhere."""
    path = Path(path)
    return str(path.relative_to(work)) if path.is_relative_to(work) else str(path.absolute())


def _table(models: dict, metrics: dict[str, dict], costs: dict, notes: list[str]) -> ResultsTable:
    rows = []
    for name in models:
        # Training on changes the weights alone.
        cost = costs["models"].get(name) or costs["models"]["baseline"]
        rows.append(
            {
                "model": name,
                **headline(metrics[name]),
                "parameters": cost["parameters"],
                "FLOPs": cost["flops"],
                "latency": cost["latency_ms"],
            }
        )
    height, width = costs["size"]
    where = costs["environment"]
    notes = [
        *notes,
        f"FLOPs (multiply-adds) and latency (batch 1, median) at {width} x {height}, "
        + ", ".join(f"{k} {v}" for k, v in where.items()),
    ]
    columns = {name: metric_format(name) for name in rows[0]}
    columns.update({"model": None, "parameters": COUNT, "FLOPs": COUNT, "latency": "ms"})
    return ResultsTable(columns, rows, title="Results", notes=notes)
