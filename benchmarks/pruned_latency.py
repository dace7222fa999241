"""Latency of pruned over unpruned networks, beside the ratio of their FLOPs.

Networks pruned by random scores are timed in turns with the unpruned one, in one process, and the
time is split by kind of operator, so that one sees how much of the reduction arrives and where the
rest goes.

    python benchmarks/pruned_latency.py --threads 1 --out work_dirs/pruned_latency --profile 0.4
    python benchmarks/pruned_latency.py --models swin-t --batch 1 --ratios 0.5 --round-to 1 32

writes OUT.json, OUT.md and OUT.png. A ratio of 0 is the control: sliced layers of full width.
"""

import argparse
import json
import os
from collections.abc import Mapping, Sequence

import torch
from mmengine.logging import MMLogger
from torch import nn

from latency.plot import plot_latency
from latency.pruned_networks import CONFIGS, WAYS, build_network, prepare, prune, ways_of
from latency.time_by_kind import KINDS, REST, time_by_kind
from rarts_mm.analysis import ResultsTable, count_flops, count_parameters, environment
from rarts_mm.apis import command_line
from rarts_mm.files import write_text
from steps.timing import quartiles, time_in_turns

BASE = "unpruned"
CLOCKS = ("wall", "processor")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=list(CONFIGS), default=list(CONFIGS))
    parser.add_argument(
        "--ratios",
        nargs="+",
        type=float,
        default=[0.0, 0.2, 0.4, 0.6],
        help="shares of the scores to remove (default: 0 0.2 0.4 0.6)",
    )
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 16], help="default: 1 16")
    parser.add_argument("--size", type=int, default=224, help="pixels of an image's side")
    parser.add_argument(
        "--round-to",
        nargs="+",
        type=int,
        default=[1, 8, 16],
        metavar="N",
        help="prune to widths that are multiples of N; 1: to any (default: 1 8 16)",
    )
    parser.add_argument(
        "--ways", nargs="+", choices=WAYS, default=list(WAYS), help="how to run the networks"
    )
    parser.add_argument("--repeats", type=int, default=7, help="timed rounds (default: 7)")
    parser.add_argument(
        "--more-at-one",
        type=int,
        default=4,
        metavar="K",
        help="K times as many rounds with single images (default: 4)",
    )
    parser.add_argument("--warmup", type=int, default=1, help="rounds before (default: 1)")
    parser.add_argument("--threads", type=int, help="CPU threads; default: torch's choice")
    parser.add_argument(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="what ratios go by; processor leaves out what other programs took, use it with "
        "--threads 1 (default: wall)",
    )
    parser.add_argument(
        "--profile", type=float, metavar="RATIO", help="split the time at this ratio by operators"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the scores (default: 0)")
    parser.add_argument("--out", metavar="OUT", help="write OUT.json, OUT.md and OUT.png")
    args = parser.parse_args(argv)
    for name in ("size", "repeats", "more_at_one", "threads", "warmup"):
        value, least = getattr(args, name), int(name != "warmup")
        if value is not None and value < least:
            parser.error(f"--{name.replace('_', '-')} {value}: give at least {least}")
    for name in ("batch", "round_to"):
        if (least := min(getattr(args, name))) < 1:
            parser.error(f"--{name.replace('_', '-')} {least}: give at least 1")
    if bad := [ratio for ratio in args.ratios if not 0 <= ratio < 1]:
        parser.error(f"--ratios {bad[0]:g}: give shares from 0 to below 1, such as 0.4")
    if args.profile is not None and args.profile not in args.ratios:
        given = " ".join(f"{ratio:g}" for ratio in args.ratios)
        parser.error(f"--profile {args.profile:g}: give one of --ratios {given}")
    return args


def measure(args: argparse.Namespace) -> dict:
    """All measurements, ready for JSON."""
    if args.threads:
        torch.set_num_threads(args.threads)
    rows, kinds = [], []
    for model in args.models:
        whole = build_network(model)
        networks, about = _networks(whole, args)
        ways = [way for way in args.ways if way in ways_of(whole)] or [WAYS[0]]
        for batch in args.batch:
            images = torch.randn(
                batch, 3, args.size, args.size, generator=torch.Generator().manual_seed(0)
            )
            for way in ways:
                where = dict(model=model, batch=batch, way=way)
                calls = {name: prepare(n, way, images) for name, n in networks.items()}
                rounds = args.repeats * (args.more_at_one if batch == 1 else 1)
                with torch.inference_mode():
                    seconds = time_in_turns(calls, rounds, args.warmup, "cpu")
                rows += [where | row for row in _rows(about, seconds, args.clock)]
                if args.profile is not None:
                    kinds += [where | row for row in _kinds(calls, about, args.profile, rounds)]
    return {
        "environment": environment(whole) | dict(load=os.getloadavg()[0], allocator=_allocator()),
        "setting": vars(args),
        "latency": rows,
        "kinds": kinds,
    }


def _networks(
    whole: nn.Module, args: argparse.Namespace
) -> tuple[dict[str, nn.Module], dict[str, dict]]:
    """The unpruned network and the pruned ones by name, and what is known of each."""
    size = (args.size, args.size)
    flops = count_flops(whole, size).total
    networks, about = {BASE: whole}, {}
    for ratio in args.ratios:
        # Full widths are rounded already.
        for round_to in args.round_to if ratio else [1]:
            name = f"{ratio:g}, multiples of {round_to}"
            networks[name], widths = prune(whole, ratio, round_to, args.seed)
            about[name] = dict(
                ratio=ratio,
                round_to=round_to,
                parameters=count_parameters(networks[name]),
                flop_ratio=count_flops(networks[name], size).total / flops,
                widths=widths,
            )
    return networks, about


def _rows(about: Mapping[str, dict], seconds: dict, clock: str) -> list[dict]:
    """A row for each pruned network: times, ratios, and how much of the reduction arrived."""
    rows = []
    for name, known in about.items():
        ratios = {
            by: quartiles([a / b for a, b in zip(times[name], times[BASE], strict=True)])
            for by, times in seconds.items()
        }
        latency = ratios[clock]["median"]
        removed = 1 - known["flop_ratio"]
        rows.append(
            known
            | dict(
                milliseconds=1000 * quartiles(seconds[clock][name])["median"],
                unpruned_milliseconds=1000 * quartiles(seconds[clock][BASE])["median"],
                latency_ratio=latency,
                ratios=ratios,
                arrived=(1 - latency) / removed if removed else None,
            )
        )
    return rows


def _kinds(calls: Mapping, about: Mapping[str, dict], ratio: float, rounds: int) -> list[dict]:
    """Time by kind of operator, before and after, and what it exceeds its part of the FLOPs by."""
    chosen = [name for name, known in about.items() if known["ratio"] == ratio]
    found = time_by_kind({name: calls[name] for name in [BASE, *chosen]}, rounds)
    rows = []
    for name in chosen:
        known = about[name]
        excess = {
            kind: found[name][kind] - known["flop_ratio"] * found[BASE][kind]
            for kind in found[name]
        }
        rows += [
            dict(
                ratio=known["ratio"],
                round_to=known["round_to"],
                flop_ratio=known["flop_ratio"],
                kind=kind,
                before=found[BASE][kind],
                after=found[name][kind],
                excess=excess[kind],
            )
            for kind in [*KINDS, REST]
            if found[BASE][kind] or found[name][kind]
        ]
    return rows


def _allocator() -> str:
    """Settings of the C library's allocator, which decide whether freed memory is kept."""
    settings = [f"{key}={value}" for key, value in os.environ.items() if key.startswith("MALLOC_")]
    return " ".join(sorted(settings)) or "default"


def tables(results: dict) -> list[ResultsTable]:
    """Latency, and the split by kind of operator if there is one."""
    where = results["environment"]
    latency = ResultsTable(
        {
            "network": None,
            "batch": None,
            "way": None,
            "removed": "{:.0%}".format,
            "widths": None,
            "FLOPs": "{:.2f}".format,
            "unpruned": "ms",
            "pruned": "ms",
            "latency": "{:.2f}".format,
            "quartiles": None,
            "arrived": "{:.0%}".format,
        },
        [_latency_cells(row, results["setting"]["clock"]) for row in results["latency"]],
        title="Latency of pruned networks",
        notes=[
            f"{where['device']}, {where['threads']} threads, torch {where['torch']}, "
            f"{where['dtype']}, {where['date']}, {results['setting']['clock']} time, load "
            f"{where['load']:.1f}, allocator: {where['allocator']}",
            "removed: share of the scores. FLOPs, latency: by the unpruned network's, run the same way. "
            "arrived: (1 - latency) / (1 - FLOPs)",
        ],
    )
    if not results["kinds"]:
        return [latency]
    kinds = ResultsTable(
        {
            "network": None,
            "batch": None,
            "way": None,
            "widths": None,
            "kind": None,
            "before": "ms",
            "after": "ms",
            "ratio": "{:.2f}".format,
            "excess": "ms",
        },
        [
            [
                row["model"],
                row["batch"],
                row["way"],
                _widths(row),
                row["kind"],
                row["before"],
                row["after"],
                row["after"] / row["before"] if row["before"] else None,
                row["excess"],
            ]
            for row in results["kinds"]
        ],
        title=f"Time by kind of operator, {results['setting']['profile']:.0%} of the scores removed",
        notes=["excess: after - FLOP ratio x before, what did not arrive"],
    )
    return [latency, kinds]


def _latency_cells(row: Mapping, clock: str) -> list:
    span = row["ratios"][clock]
    return [
        row["model"],
        row["batch"],
        row["way"],
        row["ratio"],
        _widths(row),
        row["flop_ratio"],
        row["unpruned_milliseconds"],
        row["milliseconds"],
        row["latency_ratio"],
        f"{span['lower']:.2f} to {span['upper']:.2f}",
        row["arrived"],
    ]


def _widths(row: Mapping) -> str:
    return "any" if row["round_to"] == 1 else f"multiples of {row['round_to']}"


def main(argv: Sequence[str] | None = None) -> dict:
    args = parse_args(argv)
    # Initialisers tell MMEngine's current logger about every parameter.
    MMLogger.get_instance("pruned_latency", log_level="ERROR")
    results = measure(args)
    shown = tables(results)
    for table in shown:
        table.print()
        print()
    if args.out:
        write_text(f"{args.out}.json", json.dumps(results, indent=1) + "\n")
        write_text(f"{args.out}.md", "\n".join(table.markdown() for table in shown))
        plot_latency(results["latency"], f"{args.out}.png")
        print(f"wrote {args.out}.json, {args.out}.md and {args.out}.png")
    return results


if __name__ == "__main__":
    command_line.run(main)
