"""The whole chain: baseline, search, prune, fine-tune, test."""

import copy
import shlex
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import find_latest_checkpoint

from rarts_mm.analysis import ResultsTable, count_flops, environment, latency_of_models
from rarts_mm.analysis.tables import COUNT
from rarts_mm.engine import has_saved
from rarts_mm.files import digest, write_text
from rarts_mm.models.swin_release import convert_on_load

from .configs import plain_config, prepare_registries, read_config, require_search
from .evaluate import evaluate
from .input_size import input_size
from .metrics import headline, metric_format
from .plans import Ranking, check_plans
from .preflight import check_files
from .prune import Extras, folder_name, prune
from .schedule import continued
from .search_checkpoint import read_checkpoint
from .stages import Stages
from .targets import SCORES, Target, parse_target
from .train import train, training_config
from .validation import check_search


def compress(
    config: str | Path,
    targets: Sequence[Target | float],
    checkpoint: str | Path | None = None,
    work_dir: str | Path | None = None,
    control: bool = False,
    how: Ranking | None = None,
    distill: bool = False,
    scratch: bool = False,
    options: dict | None = None,
    verbose: bool = False,
) -> ResultsTable:
    """Run the chain on one config; interrupted, the same call goes on where it stopped.

    One baseline and one search serve all targets, also those of later calls.

    Args:
        config: a search config.
        targets: what is asked for; a number is a share of the scores to remove, in (0, 1).
        checkpoint: the trained, unpruned model. Without it the config's ``load_from`` is taken, and
            without that a baseline is trained.
        work_dir: folder for everything; defaults to ``work_dirs/compress_<name of the config>``.
        control: also train the baseline on, for as many steps as search and fine-tuning took.
        how: how dimensions are ranked and kept.
        distill: also fine-tune with the baseline as the teacher.
        scratch: also train the pruned architectures from random weights.
        options: settings of the config to override.
        verbose: show all that the stages print, which otherwise is in a log file of each.

    Returns:
        The table of results, also written as ``results.json`` and ``results.md``.
    """
    how = how or Ranking()
    targets = list(dict.fromkeys(parse_target(SCORES, target) for target in targets))
    cfg = read_config(config, options)
    require_search(cfg, str(config))
    check_search(cfg, "baseline", "finetune", complete=True)
    check_plans(cfg, targets, how)
    work = Path(work_dir or Path("work_dirs") / f"compress_{Path(config).stem}")
    checkpoint = checkpoint or cfg.get("load_from")
    if checkpoint is None:
        check_files(cfg, ("train", "val", "test"))
    else:
        check_files(
            Config(dict(cfg.to_dict(), load_from=str(checkpoint))), ("train", "val", "test")
        )
    stages = Stages(
        work / "stages.json",
        dict(
            config=cfg.pretty_text,
            checkpoint=None if checkpoint is None else _identity(str(checkpoint)),
        ),
        verbose,
    )

    # Written out, so that every stage can be repeated by hand.
    search_py, baseline_py = work / "search.py", work / "baseline.py"
    write_text(search_py, cfg.pretty_text)
    write_text(baseline_py, plain_config(cfg, "baseline").pretty_text)

    def test(name: str, config: Path, weights: str | Path) -> dict[str, float]:
        command = f"python tools/test.py {config} {weights}"
        return stages.run(f"test: {name}", command, _test, config, weights, work / "tests")

    if checkpoint is None:
        checkpoint = _train(stages, "baseline", baseline_py, work / "baseline")
    else:
        # A checkpoint that does not fit must show before the search, not after it.
        test("baseline", baseline_py, checkpoint)
    searched = _train(stages, "search", search_py, work / "search", load_from=str(checkpoint))

    models = {"baseline": (baseline_py, checkpoint)}
    for target in targets:
        folder = work / folder_name(target, how)
        name = target.label + how.suffix.replace("_", " ")
        flags = [*target.arguments, *how.arguments, "--out", str(folder)]
        extras = Extras((str(baseline_py), str(checkpoint)) if distill else None, scratch)
        flags += ["--distill", *extras.distill] if distill else []
        flags += ["--scratch"] if scratch else []
        besides = [w for w, wanted in (("distill", distill), ("scratch", scratch)) if wanted]
        stages.run(
            " with ".join([f"prune {name}", *besides]),
            shlex.join(["python", "tools/prune.py", str(search_py), str(searched), *flags]),
            _prune,
            search_py,
            searched,
            target,
            folder,
            how,
            extras,
        )
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
        plan = _control_plan(baseline_py, searched, tuned, work / "control.py")
        trained_on = _train(
            stages, "control", work / "control.py", work / "control", load_from=str(checkpoint)
        )
        models["baseline, trained on"] = (work / "control.py", trained_on)
        notes.append(
            f"baseline, trained on: {plan['epochs']} more epochs, as many steps as the search and "
            f"one fine-tuning ({plan['steps']}), rounded up to whole epochs"
        )

    metrics = {name: test(name, c, p) for name, (c, p) in models.items()}
    costs = stages.run(
        "costs",
        "parameters, FLOPs and latency",
        _costs,
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


def _train(
    stages: Stages, name: str, config: Path, work_dir: Path, load_from: str | None = None
) -> Path:
    options = {} if load_from is None else {"load_from": load_from}
    resume = has_saved(work_dir)
    command = f"python tools/train.py {config} --work-dir {work_dir}"
    if resume:
        command += " --resume"
    elif options:
        command += f" --cfg-options load_from={load_from}"
    result = stages.run(name, command, _train_stage, config, work_dir, resume, options)
    # By its name alone: the folder may have been moved or copied since.
    return work_dir / Path(result["checkpoint"]).name


def _train_stage(config: Path, work_dir: Path, resume: bool, options: dict) -> dict:
    cfg = training_config(
        config,
        work_dir=str(work_dir),
        resume="auto" if resume else None,
        options=None if resume else options,
    )
    train(cfg)
    return dict(checkpoint=Path(find_latest_checkpoint(str(work_dir))).name)


def _prune(
    config: Path, checkpoint: Path, target: Target, folder: Path, how: Ranking, extras: Extras
) -> dict:
    (result,) = prune(config, checkpoint, [target], out=folder, how=how, extras=extras)
    result.print()
    return dict(summary=result.summary)


def _control_plan(baseline: Path, searched: Path, tuned: Path, out: Path) -> dict:
    """Write the config that trains the baseline on for the steps of search and fine-tuning."""
    search_meta, tuned_meta = (read_checkpoint(p)["meta"] for p in (searched, tuned))
    steps = search_meta["iter"] + tuned_meta["iter"]
    per_epoch = tuned_meta["iter"] / tuned_meta["epoch"]
    # Rounded up: in doubt the control gets more training than the pruned model.
    epochs = -(-steps // per_epoch)
    cfg = continued(read_config(baseline), int(epochs))
    write_text(out, cfg.pretty_text)
    return dict(epochs=int(epochs), steps=steps)


def _test(config: Path, checkpoint: Path, work_dir: Path) -> dict:
    metrics = evaluate(read_config(config), checkpoint, work_dir)
    return {k: float(v) for k, v in metrics.items()}


def _costs(models: dict[str, tuple[Path, Path]], size: tuple[int, int] | None) -> dict:
    """Parameters, FLOPs and latency of models, the latency interleaved in one process."""
    built, complexities = {}, {}
    for name, (config, checkpoint) in models.items():
        cfg = read_config(config)
        prepare_registries(cfg)
        size = size or input_size(cfg)
        model_cfg = copy.deepcopy(cfg.model)
        if cfg.get("data_preprocessor") is not None:
            model_cfg.setdefault("data_preprocessor", cfg.data_preprocessor)
        model = MODELS.build(model_cfg)
        # How many boxes a detector finds, and so its latency, depends on the weights.
        state = convert_on_load(read_checkpoint(checkpoint)["state_dict"], model)
        model.load_state_dict(state, strict=False)
        model.train(False)
        built[name] = model
        complexities[name] = count_flops(model, size)
    latencies = latency_of_models(built, size)
    return dict(
        size=list(size),
        environment=environment(model),
        models={
            name: dict(
                parameters=complexities[name].total_parameters,
                flops=complexities[name].total,
                latency_ms=latencies[name].median,
            )
            for name in built
        },
    )


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
