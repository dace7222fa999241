"""RARTS against the baselines of pruning, on real handwritten digits: three networks, four budgets.

    python tools/make_digits.py
    python studies/compare_pruners.py

writes the section "Pruning" of studies/results.md and studies/results-pruners.png. Stopped, the same command
goes on.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from evidence.pool import check_identity, run_all
from evidence.training import alpha_at, prepare
from evidence.wording import REFERENCE
from pruning.page import JOINT, NETWORKS, PLAIN, Network, Record, write_page
from pruning.pruners import (
    DISTILL,
    FINETUNE,
    SCRATCH,
    TAS,
    PruningTask,
    SearchTask,
    options_of,
    run_pruning,
    run_search,
)
from rarts_mm.apis import command_line, read_config
from rarts_mm.files import write_text

ROOT = Path(__file__).parents[1]

# Folder of a pruning -> search, criterion, scope, trainings.
PRUNINGS = {
    "alpha": (REFERENCE, "alpha", "global", (FINETUNE, DISTILL, SCRATCH)),
    "joint": (JOINT, "alpha", "global", (FINETUNE,)),
    "magnitude": (PLAIN, "magnitude", "global", (FINETUNE,)),
    "random": (PLAIN, "random", "global", (FINETUNE,)),
    "uniform": (PLAIN, "random", "layer", (FINETUNE, TAS)),
}
# The one thing that is tuned, for each network and for both searches alike: how fast alpha moves. As fast
# as the weights, which is Network Slimming's and the project's default, or ten times that.
ALPHA_RATES = (3e-3, 3e-2)
TUNED = {REFERENCE: "alpha", JOINT: "joint"}
# Far from those of the comparison, which count from 0.
FIRST_SWEEP_SEED = 1000


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--networks",
        nargs="+",
        choices=list(NETWORKS),
        default=list(NETWORKS),
        help="default: all",
    )
    parser.add_argument("--data", metavar="DIR", help="the digits; default: the configs' data_root")
    parser.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="runs of each method (default: 3)"
    )
    parser.add_argument(
        "--sweep-seeds",
        type=int,
        default=1,
        metavar="N",
        help="other seeds, on which alpha's learning rate is chosen (default: 1)",
    )
    parser.add_argument(
        "--ratios",
        type=float,
        nargs="+",
        default=[0.2, 0.4, 0.6, 0.8],
        metavar="RATIO",
        help="shares of every layer whose removal sets the budgets (default: 0.2 0.4 0.6 0.8)",
    )
    parser.add_argument("--epochs", type=int, help="of a search; default: the configs'")
    parser.add_argument("--finetune-epochs", type=int, help="default: the configs'")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time (default: 2)")
    parser.add_argument("--work-dir", default="work_dirs/compare_pruners", metavar="DIR")
    parser.add_argument(
        "--out", default=str(ROOT / "studies/results.md"), metavar="FILE", help="the page to write"
    )
    args = parser.parse_args(argv)
    for name, least in (("seeds", 2), ("sweep_seeds", 1), ("workers", 1)):
        if getattr(args, name) < least:
            why = "; an interval needs two" if name == "seeds" else ""
            option = name.replace("_", "-")
            parser.error(f"--{option} {getattr(args, name)}: give at least {least}{why}")
    for name in ("epochs", "finetune_epochs"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} {getattr(args, name)}: give at least 1")
    args.networks = [name for name in NETWORKS if name in args.networks]
    args.ratios = sorted(set(args.ratios))
    if bad := [ratio for ratio in args.ratios if not 0 < ratio < 1]:
        parser.error(f"--ratios {bad[0]:g}: give ratios between 0 and 1, such as 0.4")
    if not args.out.endswith(".md"):
        parser.error(f"--out {args.out}: give a file whose name ends in .md")
    return args


def config_of(network: Network) -> str:
    return str(ROOT / "configs" / network.config)


def search_task(
    network: Network, name: str, seed: int, test_on: str, options: dict, rate: float | None
) -> SearchTask:
    """The search ``name`` of a network, with alpha's learning rate where it has alpha."""
    config = config_of(network)
    own = {} if rate is None else alpha_at(read_config(config), rate)
    if name == JOINT:
        own |= network.joint_options
    return SearchTask(config, name, seed, test_on, {**options, **own}, whole=name == PLAIN)


def sweep_folder(network: str, name: str, rate: float, seed: int) -> str:
    return f"sweep/{network}/{name}-{rate:g}/seed{seed}"


def sweep_tasks(
    args: argparse.Namespace, options: dict[str, dict], work: Path
) -> tuple[dict[str, SearchTask], dict[str, PruningTask]]:
    """Searches and prunings to the smallest budget by which alpha's rates are chosen."""
    searches, prunings = {}, {}
    for seed in range(FIRST_SWEEP_SEED, FIRST_SWEEP_SEED + args.sweep_seeds):
        for rate in ALPHA_RATES:
            for name in TUNED:
                for key in args.networks:
                    folder = sweep_folder(key, name, rate, seed)
                    searches[f"{folder}/search"] = search_task(
                        NETWORKS[key], name, seed, "val", options[key], rate
                    )
                    prunings[f"{folder}/pruned"] = PruningTask(
                        str(work / folder / "search"),
                        None,
                        max(args.ratios),
                        "alpha",
                        "global",
                        seed,
                        (FINETUNE,),
                    )
    return searches, prunings


def choose_rates(
    args: argparse.Namespace, results: dict[str, dict]
) -> tuple[dict[str, dict[str, float]], dict]:
    """Network -> search -> the rate with the lowest mean validation error; and these errors.

    Of equal errors the smaller rate wins.
    """
    seeds = range(FIRST_SWEEP_SEED, FIRST_SWEEP_SEED + args.sweep_seeds)
    errors = {
        key: {
            name: {
                rate: statistics.mean(
                    results[f"{sweep_folder(key, name, rate, seed)}/pruned"]["trainings"][FINETUNE][
                        "error"
                    ]
                    for seed in seeds
                )
                for rate in ALPHA_RATES
            }
            for name in TUNED
        }
        for key in args.networks
    }
    chosen = {
        key: {name: min(rates, key=rates.__getitem__) for name, rates in of_network.items()}
        for key, of_network in errors.items()
    }
    return chosen, errors


def run_folder(network: str, name: str, rates: dict, seed: int) -> str:
    rate = rates[network].get(name)
    return f"final/{network}/seed{seed}/{name}{'' if rate is None else f'-{rate:g}'}"


def final_tasks(
    args: argparse.Namespace, options: dict[str, dict], rates: dict, work: Path
) -> tuple[dict[str, SearchTask], dict[str, PruningTask]]:
    """Searches and prunings of the comparison, network by network within each seed."""
    searches, prunings = {}, {}
    for seed in range(args.seeds):
        for name in (PLAIN, JOINT, REFERENCE):
            for key in args.networks:
                folder = run_folder(key, name, rates, seed)
                rate = rates[key].get(name)
                searches[f"{folder}/search"] = search_task(
                    NETWORKS[key], name, seed, "test", options[key], rate
                )
        for pruning, (name, criterion, scope, trainings) in PRUNINGS.items():
            for ratio in args.ratios:
                for key in args.networks:
                    folder = run_folder(key, name, rates, seed)
                    prunings[f"{folder}/{pruning}_{100 * ratio:g}"] = PruningTask(
                        str(work / folder / "search"),
                        str(work / run_folder(key, PLAIN, rates, seed) / "search"),
                        ratio,
                        criterion,
                        scope,
                        seed,
                        trainings,
                    )
    return searches, prunings


def records(
    args: argparse.Namespace, rates: dict, searched: dict[str, dict], pruned: dict[str, dict]
) -> list[Record]:
    """What was measured, a record for each network, method, ratio and seed."""
    found = []
    for key in args.networks:
        for seed in range(args.seeds):
            whole = searched[f"{run_folder(key, PLAIN, rates, seed)}/search"]
            found.append(
                Record(
                    network=key,
                    pruning=None,
                    training=FINETUNE,
                    ratio=0.0,
                    seed=seed,
                    error=whole["error"],
                    parameters=whole["parameters"],
                    flops=whole["flops"],
                    steps=whole["finetune_steps"],
                )
            )
            for pruning, (name, *_) in PRUNINGS.items():
                for ratio in args.ratios:
                    folder = run_folder(key, name, rates, seed)
                    result = pruned[f"{folder}/{pruning}_{100 * ratio:g}"]
                    for training, of_training in result["trainings"].items():
                        found.append(
                            Record(
                                network=key,
                                pruning=pruning,
                                training=training,
                                ratio=ratio,
                                seed=seed,
                                error=of_training["error"],
                                parameters=result["parameters"],
                                flops=result["flops"],
                                steps=of_training["finetune_steps"],
                            )
                        )
    return found


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    options, configs = {}, {}
    for key in args.networks:
        config = config_of(NETWORKS[key])
        options[key] = options_of(config, args.data, args.epochs, args.finetune_epochs)
        configs[key] = read_config(config, options[key])
    prepare(configs.values())
    work = Path(args.work_dir).absolute()
    # Not seeds, ratios and rates, which stand in the names of the folders: more may be added. But the
    # sweep is made at the largest ratio.
    check_identity(
        work,
        dict(
            {key: cfg.pretty_text for key, cfg in configs.items()},
            networks=args.networks,
            largest_ratio=max(args.ratios),
        ),
    )
    searches, prunings = sweep_tasks(args, options, work)
    run_all(run_search, searches, work, args.workers, "1/4 searches for the rates")
    tuned = run_all(run_pruning, prunings, work, args.workers, "2/4 prunings for the rates")
    rates, sweep_errors = choose_rates(args, tuned)
    searches, prunings = final_tasks(args, options, rates, work)
    searched = run_all(run_search, searches, work, args.workers, "3/4 searches")
    pruned = run_all(run_pruning, prunings, work, args.workers, "4/4 prunings")
    found = records(args, rates, searched, pruned)
    write_text(
        work / "results.json",
        json.dumps(
            dict(
                rates=rates,
                sweep=sweep_errors,
                records=[vars(record) for record in found],
                searches=list(searched.values()),
                prunings=list(pruned.values()),
            ),
            indent=1,
        ),
    )
    write_page(
        Path(args.out),
        records=found,
        configs=configs,
        seconds={
            key: {
                name: statistics.median(
                    searched[f"{run_folder(key, name, rates, seed)}/search"]["seconds"]
                    for seed in range(args.seeds)
                )
                for name in (REFERENCE, JOINT, PLAIN)
            }
            for key in args.networks
        },
        rates=rates,
        sweep_errors=sweep_errors,
        sweep_seeds=args.sweep_seeds,
        command=f"python studies/compare_pruners.py {' '.join(argv or sys.argv[1:])}".strip(),
    )
    print(f"wrote {args.out}; all runs: {work / 'results.json'}")


if __name__ == "__main__":
    command_line.run(main, hint="the same command goes on")
