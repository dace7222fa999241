"""The papers' comparison on real handwritten digits: every search, then random scores and magnitude.

    python tools/make_digits.py
    python studies/compare_searches.py

writes the section "Searches" of studies/results.md and studies/results-digits.png. Stopped, the same command goes on.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from evidence.pool import check_identity, run_all
from evidence.training import ALPHA_OPTIMIZER, alpha_at, lengths, prepare
from rarts_mm.apis import command_line, read_config
from rarts_mm.files import write_text
from width_searches.one_search import UNPRUNED, Task, perform
from width_searches.page import Method, write_page

ROOT = Path(__file__).parents[1]

SEARCHES = ("RARTS", "RARTSJacobi", "DARTS1", "DARTS2", "MiLeNAS", "Joint")
PLAIN = "WeightsOnly"
METHODS = (
    *(Method(name, name, "alpha") for name in SEARCHES),
    Method("magnitude", PLAIN, "magnitude"),
    Method("random scores", PLAIN, "random"),
    Method("unpruned", PLAIN, UNPRUNED),
)
# The one thing that is tuned, for each search alike: how fast alpha moves.
ALPHA_RATES = (2e-3, 1e-2, 5e-2, 2.5e-1)
# Far from those of the comparison, which count from 0.
FIRST_SWEEP_SEED = 1000


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default=str(ROOT / "configs/sidt_swin_micro_digits.py"))
    parser.add_argument("--data", metavar="DIR", help="the digits; default: the config's data_root")
    parser.add_argument(
        "--seeds", type=int, default=6, metavar="N", help="runs of each method (default: 6)"
    )
    parser.add_argument(
        "--sweep-seeds",
        type=int,
        default=2,
        metavar="N",
        help="other seeds, on which alpha's learning rate is chosen (default: 2)",
    )
    parser.add_argument(
        "--shares",
        type=float,
        nargs="+",
        default=[0.4, 0.7],
        help="shares to remove, of the parameters and of the scores (default: 0.4 0.7)",
    )
    parser.add_argument("--epochs", type=int, help="of a search; default: the config's")
    parser.add_argument("--finetune-epochs", type=int, help="default: the config's")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time (default: 2)")
    parser.add_argument("--work-dir", default="work_dirs/compare_searches", metavar="DIR")
    parser.add_argument(
        "--out", default=str(ROOT / "studies/results.md"), metavar="FILE", help="the page to write"
    )
    args = parser.parse_args(argv)
    for name, least in (("seeds", 2), ("sweep_seeds", 1), ("workers", 1)):
        if getattr(args, name) < least:
            option = name.replace("_", "-")
            why = "; an interval needs two" if name == "seeds" else ""
            parser.error(f"--{option} {getattr(args, name)}: give at least {least}{why}")
    for name in ("epochs", "finetune_epochs"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} {getattr(args, name)}: give at least 1")
    args.shares = sorted(set(args.shares))
    if bad := [share for share in args.shares if not 0 < share < 1]:
        parser.error(f"--shares {bad[0]:g}: give shares between 0 and 1, such as 0.4")
    if not args.out.endswith(".md"):
        parser.error(f"--out {args.out}: give a file whose name ends in .md")
    return args


def settings(args: argparse.Namespace) -> dict:
    """Options of the config that all runs share."""
    return lengths(args.config, args.data, args.epochs, args.finetune_epochs)


def sweep_tasks(args: argparse.Namespace, options: dict) -> dict[str, Task]:
    """Folder -> task, for every search, rate and seed of the sweep; errors on validation data."""
    cfg = read_config(args.config)
    budgets = (("parameters", max(args.shares)),)
    return {
        f"sweep/{name}-{rate:g}/seed{seed}": Task(
            name, seed, ("alpha",), budgets, "val", {**options, **alpha_at(cfg, rate)}
        )
        for seed in range(FIRST_SWEEP_SEED, FIRST_SWEEP_SEED + args.sweep_seeds)
        for name in SEARCHES
        for rate in ALPHA_RATES
    }


def choose_rates(tasks: dict[str, Task], results: dict[str, dict]) -> tuple[dict, dict]:
    """For each search the rate with the lowest mean error, and all mean errors.

    Of equal errors the one wins that was lower before fine-tuning.
    """
    errors: dict[str, dict[float, list[tuple[float, float]]]] = {}
    for folder, task in tasks.items():
        rate = task.options[ALPHA_OPTIMIZER]["optimizer"]["lr"]
        (model,) = results[folder]["models"]
        by_rate = errors.setdefault(task.alternation, {})
        by_rate.setdefault(rate, []).append((model["error"], model["error_before"]))
    means = {
        name: {r: tuple(map(statistics.mean, zip(*e, strict=True))) for r, e in by_rate.items()}
        for name, by_rate in errors.items()
    }
    chosen = {name: min(by_rate, key=by_rate.__getitem__) for name, by_rate in means.items()}
    return chosen, means


def final_tasks(args: argparse.Namespace, options: dict, rates: dict) -> dict[str, Task]:
    """Folder -> task, for every search and seed of the comparison; errors on test data."""
    cfg = read_config(args.config)
    budgets = tuple((kind, share) for kind in ("parameters", "scores") for share in args.shares)
    criteria: dict[str, tuple[str, ...]] = {}
    for method in METHODS:
        criteria[method.search] = (*criteria.get(method.search, ()), method.criterion)
    tasks = {}
    for seed in range(args.seeds):
        for name, of_search in criteria.items():
            own = alpha_at(cfg, rates[name]) if name in rates else {}
            folder = f"final/{name}{f'-{rates[name]:g}' if name in rates else ''}/seed{seed}"
            tasks[folder] = Task(name, seed, of_search, budgets, "test", {**options, **own})
    return tasks


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    cfg = read_config(args.config)
    options = settings(args)
    cfg.merge_from_dict(options)
    prepare([cfg])
    work = Path(args.work_dir)
    check_identity(
        work,
        # Not the seeds and rates, which stand in the names of the folders: more may be added.
        dict(config=cfg.pretty_text, shares=args.shares),
    )
    sweep = sweep_tasks(args, options)
    run = partial(perform, config=args.config)
    tuned = run_all(run, sweep, work, args.workers, "sweep")
    rates, sweep_errors = choose_rates(sweep, tuned)
    tasks = final_tasks(args, options, rates)
    results = run_all(run, tasks, work, args.workers, "comparison")
    runs = [dict(result, folder=folder) for folder, result in results.items()]
    write_text(
        work / "results.json",
        json.dumps(dict(rates=rates, runs=runs, sweep=list(tuned.values())), indent=1),
    )
    write_page(
        Path(args.out),
        methods=METHODS,
        runs=runs,
        cfg=cfg,
        rates=rates,
        sweep_errors=sweep_errors,
        sweep_seeds=args.sweep_seeds,
        command=f"python studies/compare_searches.py {' '.join(argv or sys.argv[1:])}".strip(),
    )
    print(f"wrote {args.out}; all runs: {work / 'results.json'}")


if __name__ == "__main__":
    command_line.run(main, hint="the same command goes on")
