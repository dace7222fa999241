"""The papers' comparison of topology searches on real handwritten digits, up to retrained networks.

    python tools/make_digits.py
    python studies/compare_topologies.py

writes the section "Cells" of studies/results.md and studies/results-cells.png: every alternation, then random
search and random cells. Stopped, the same command goes on.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from evidence.pool import check_identity, run_all
from evidence.training import prepare
from rarts_mm.apis import command_line, read_config
from rarts_mm.files import write_text
from topologies.one_search import RANDOM_SEARCH, Task, lengths, perform
from topologies.page import write_page

ROOT = Path(__file__).parents[1]

SEARCHES = ("RARTS", "RARTSJacobi", "DARTS1", "DARTS2", "MiLeNAS", "Joint")
# The one thing that is tuned, for each search alike: how fast alpha moves.
ALPHA_RATE = "optim_wrapper.alpha.optimizer.lr"
ALPHA_RATES = (3e-3, 1e-2, 3e-2)
# Far from those of the comparison, which count from 0.
FIRST_SWEEP_SEED = 1000


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default=str(ROOT / "configs/rarts_darts_digits.py"))
    parser.add_argument("--network", default=str(ROOT / "configs/darts_retrain_digits.py"))
    parser.add_argument("--data", metavar="DIR", help="the digits; default: the config's data_root")
    numbers = (
        ("seeds", 6, 2, "runs of each method"),
        ("sweep-seeds", 1, 1, "other seeds, on which alpha's learning rate is chosen"),
        ("candidates", 8, 1, "genotypes of a random search"),
        ("candidate-epochs", 10, 1, "for which each of them is trained"),
        # With C = 8 and 5 cells, as the config has them, hardly 2 % of the digits are wrong whatever
        # the cells are, which tells nothing apart.
        ("channels", 2, 2, "C of the networks to retrain"),
        ("cells", 3, 3, "of the networks to retrain"),
        ("retrain-epochs", 30, 1, "of each of them"),
        ("workers", 2, 1, "runs at a time"),
    )
    for name, default, _, what in numbers:
        parser.add_argument(
            f"--{name}", type=int, default=default, metavar="N", help=f"{what} (default: {default})"
        )
    parser.add_argument("--epochs", type=int, help="of a search; default: the config's")
    parser.add_argument("--work-dir", default="work_dirs/compare_topologies", metavar="DIR")
    parser.add_argument(
        "--out", default=str(ROOT / "studies/results.md"), metavar="FILE", help="the page to write"
    )
    args = parser.parse_args(argv)
    for name, _, least, _ in numbers:
        if (value := getattr(args, name.replace("-", "_"))) < least:
            why = "; an interval needs two" if name == "seeds" else ""
            parser.error(f"--{name} {value}: give at least {least}{why}")
    if args.epochs is not None and args.epochs < 1:
        parser.error(f"--epochs {args.epochs}: give at least 1")
    if not args.out.endswith(".md"):
        parser.error(f"--out {args.out}: give a file whose name ends in .md")
    return args


def search_options(args: argparse.Namespace) -> dict:
    """Options of the search's config that all runs share: nobody looks at validation meanwhile."""
    cfg = read_config(args.config)
    epochs = args.epochs or cfg.train_cfg.max_epochs
    schedule = [dict(s.to_dict(), end=epochs) for s in cfg.param_scheduler.auxiliary]
    return {
        **_data(args),
        "train_cfg.max_epochs": epochs,
        "train_cfg.val_interval": epochs + 1,
        "param_scheduler.auxiliary": schedule,
        "param_scheduler.primary": schedule,
        "default_hooks.checkpoint.interval": epochs,
    }


def retraining_options(args: argparse.Namespace) -> dict:
    """Options of the retraining's config that all runs share."""
    return {
        **_data(args),
        **lengths(args.retrain_epochs),
        "model.backbone.channels": args.channels,
        "model.backbone.layers": args.cells,
    }


def _data(args: argparse.Namespace) -> dict:
    phases = ("train", "val", "test") if args.data else ()
    return {f"{phase}_dataloader.dataset.data_root": args.data for phase in phases}


def sweep_tasks(args: argparse.Namespace) -> dict[str, Task]:
    """Folder -> task, for every search, rate and seed of the sweep; errors on validation data."""
    search, retraining = search_options(args), retraining_options(args)
    return {
        f"sweep/{name}-{rate:g}/seed{seed}": Task(
            name, seed, "val", {**search, ALPHA_RATE: rate}, retraining
        )
        for seed in range(FIRST_SWEEP_SEED, FIRST_SWEEP_SEED + args.sweep_seeds)
        for name in SEARCHES
        for rate in ALPHA_RATES
    }


def choose_rates(
    tasks: Mapping[str, Task], results: Mapping[str, dict]
) -> tuple[dict[str, float], dict[str, dict[float, float]]]:
    """For each search the rate with the lowest mean error (of equals the lowest), and all mean errors."""
    errors: dict[str, dict[float, list[float]]] = {}
    for folder, task in tasks.items():
        (network,) = results[folder]["networks"]
        by_rate = errors.setdefault(task.method, {})
        by_rate.setdefault(task.search[ALPHA_RATE], []).append(network["error"])
    means = {n: {r: statistics.mean(e) for r, e in by.items()} for n, by in errors.items()}
    return {n: min(by, key=lambda r: (by[r], r)) for n, by in means.items()}, means


def final_tasks(args: argparse.Namespace, rates: Mapping[str, float]) -> dict[str, Task]:
    """Folder -> task, for every method and seed of the comparison; errors on test data."""
    search, retraining = search_options(args), retraining_options(args)
    tasks = {}
    for seed in range(args.seeds):
        for name in SEARCHES:
            options = {**search, ALPHA_RATE: rates[name]}
            folder = f"final/{name}-{rates[name]:g}/seed{seed}"
            tasks[folder] = Task(name, seed, "test", options, retraining)
        tasks[f"final/random-search/seed{seed}"] = Task(
            RANDOM_SEARCH, seed, "test", search, retraining, args.candidates, args.candidate_epochs
        )
    return tasks


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    if args.data:
        args.data = str(Path(args.data).absolute())
    search = read_config(args.config, search_options(args))
    retraining = read_config(args.network, retraining_options(args))
    prepare([search])
    work = Path(args.work_dir)
    check_identity(
        work,
        # Not the seeds and rates, which stand in the names of the folders: more may be added.
        dict(
            search=search.pretty_text,
            retraining=retraining.pretty_text,
            candidates=[args.candidates, args.candidate_epochs],
        ),
    )
    run = partial(perform, config=args.config, network=args.network)
    sweep = sweep_tasks(args)
    tuned = run_all(run, sweep, work, args.workers, "sweep")
    rates, sweep_errors = choose_rates(sweep, tuned)
    results = run_all(run, final_tasks(args, rates), work, args.workers, "comparison")
    runs = [dict(result, folder=folder) for folder, result in results.items()]
    write_text(
        work / "results.json",
        json.dumps(dict(rates=rates, runs=runs, sweep=list(tuned.values())), indent=1),
    )
    write_page(
        Path(args.out),
        runs=runs,
        search=search,
        retraining=retraining,
        rates=rates,
        sweep_errors=sweep_errors,
        sweep_seeds=args.sweep_seeds,
        command=f"python studies/compare_topologies.py {' '.join(argv or sys.argv[1:])}".strip(),
    )
    print(f"wrote {args.out}; all runs: {work / 'results.json'}")


if __name__ == "__main__":
    command_line.run(main, hint="the same command goes on")
