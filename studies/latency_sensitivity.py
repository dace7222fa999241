"""How the latency of derived networks depends on the search's settings (IEEE Access 2022, Table 2), on digits.

    python tools/make_digits.py
    python studies/latency_sensitivity.py

writes the section "Latency" of studies/results.md, with a picture and the numbers as JSON beside it. One
setting at a time leaves the baseline: latency weight, alpha's learning rate and weight decay, batch
size. Stopped, the same command goes on.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmpretrain.structures import DataSample

from evidence.pool import RESULT, check_identity, run_all
from evidence.training import prepare
from rarts_mm.apis import command_line
from rarts_mm.apis.configs import prepare_registries
from rarts_mm.apis.latency_report import measure_derived
from rarts_mm.apis.latency_table import make_latency_table, torch_threads
from rarts_mm.cells.genotype import Genotype
from rarts_mm.cells.latency_table import LatencyTable
from rarts_mm.files import write_text
from rarts_mm.registry import MODELS
from rarts_mm.search import AUXILIARY, PRIMARY
from sensitivity.page import write_page
from sensitivity.points import (
    BASELINE,
    PAPER_MS,
    PAPER_STEPS,
    SWEEP,
    Point,
    Small,
    Task,
    base_config,
    perform,
)

ROOT = Path(__file__).parents[1]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    small = Small()
    parser.add_argument("--data", metavar="DIR", help="the digits; default: data/digits")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each point (default: 3)")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=list(SWEEP),
        default=list(SWEEP),
        help="settings that are varied (default: all)",
    )
    for name, what in (
        ("channels", "C of the search network"),
        ("layers", "its cells"),
        ("nodes", "of a cell"),
        ("size", "side that the digits are enlarged to, in pixels"),
        ("epochs", "of a search"),
    ):
        default = getattr(small, name)
        parser.add_argument(
            f"--{name}", type=int, default=default, help=f"{what} (default: {default})"
        )
    parser.add_argument(
        "--paper-ms",
        type=float,
        default=PAPER_MS,
        help="the latency weights are per ms of networks of this latency, the paper's baseline, so "
        f"that they press as hard on these small ones; 0: per ms as measured (default: {PAPER_MS})",
    )
    parser.add_argument(
        "--paper-steps",
        type=int,
        default=PAPER_STEPS,
        help="alpha's learning rates are those of searches of so many steps, the paper's, and larger "
        f"here in proportion, so that alpha moves as far; 0: as printed (default: {PAPER_STEPS})",
    )
    parser.add_argument("--repeats", type=int, default=30, help="timed rounds (default: 30)")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time (default: 2)")
    parser.add_argument("--work-dir", default="work_dirs/latency_sensitivity", metavar="DIR")
    parser.add_argument("--estimate", action="store_true", help="only say how long it will take")
    parser.add_argument(
        "--out", default=str(ROOT / "studies/results.md"), metavar="FILE", help="the page to write"
    )
    args = parser.parse_args(argv)
    least = dict(seeds=1, channels=2, layers=3, nodes=1, size=5, epochs=1, repeats=1, workers=1)
    for name, value in least.items():
        if getattr(args, name) < value:
            parser.error(f"--{name} {getattr(args, name)}: give at least {value}")
    if args.paper_ms < 0:
        parser.error(f"--paper-ms {args.paper_ms:g}: give milliseconds, or 0")
    if args.paper_steps < 0:
        parser.error(f"--paper-steps {args.paper_steps}: give a number of steps, or 0")
    if not args.out.endswith(".md"):
        parser.error(f"--out {args.out}: give a file whose name ends in .md")
    return args


def points(only: Iterable[str]) -> list[Point]:
    """The baseline, and every point that leaves it in one setting."""
    varied = [replace(BASELINE, **{name: v}) for name in SWEEP if name in only for v in SWEEP[name]]
    return list(dict.fromkeys([BASELINE, *varied]))


def mean_latency(table: LatencyTable) -> float:
    """Mean predicted latency, in ms, of all networks that can be derived, each as likely.

    Every node takes two of its edges, and one of the operations but ``none`` on each.
    """
    chosen = [i for i, name in enumerate(table.network["operations"]) if name != "none"]
    total = 0.0
    for rows in table.latencies.values():
        edges = [statistics.mean(row[i] for i in chosen) for row in rows]
        node = 0
        while edges:
            own, edges = edges[: 2 + node], edges[2 + node :]
            total += 2 * statistics.mean(own)
            node += 1
    return total


def measured_table(work: Path, small: Small, repeats: int) -> tuple[LatencyTable, Path]:
    """The latency table of the searches, of one thread; that in the folder if there is one."""
    path, config = work / "latencies.json", work / "search.py"
    if not path.is_file():
        write_text(config, base_config(small).pretty_text)
        make_latency_table(config, out=path, repeats=repeats, threads=1)
    return LatencyTable.read(path), path


def seconds_per_step(small: Small, batches: Iterable[int]) -> dict[int, float]:
    """Seconds of a step of the search on one thread, by batch size."""
    cfg = base_config(small)
    prepare_registries(cfg)
    generator = torch.Generator().manual_seed(0)
    found = {}
    with torch_threads(1):
        model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor)).train()
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
        for batch in batches:
            images = torch.randint(256, (batch, 1, small.size, small.size), generator=generator)
            half = dict(
                inputs=images.to(torch.uint8),
                data_samples=[DataSample().set_gt_label(i % 10) for i in range(batch)],
            )
            times = []
            for _ in range(3):
                start = time.perf_counter()
                model.train_step({AUXILIARY: half, PRIMARY: half}, wrapper)
                times.append(time.perf_counter() - start)
            found[batch] = min(times)
    return found


def images_of_half(cfg: Config) -> float:
    """Training images of each half."""
    root = Path(cfg.train_dataloader.dataset.data_root)
    return sum(1 for _ in (root / "train").glob("*/*.png")) / 2


def tell_time(tasks: Mapping[str, Task], work: Path, workers: int) -> None:
    """Print how long the searches that are left will take."""
    left = [task for folder, task in tasks.items() if not (work / folder / RESULT).is_file()]
    if not left:
        return
    step = seconds_per_step(left[0].small, sorted({task.point.batch for task in left}))
    half = images_of_half(base_config(left[0].small))
    steps = {batch: math.ceil(half / batch) for batch in step}
    total = sum(t.small.epochs * steps[t.point.batch] * step[t.point.batch] for t in left)
    parts = ", ".join(f"{1000 * s:.0f} ms at batch size {batch}" for batch, s in step.items())
    print(
        f"{len(left)} searches of {len(tasks)} are left: about {total / workers / 60:.0f} minutes with "
        f"{workers} at a time (a step: {parts})",
        flush=True,
    )


def measure(
    table: LatencyTable, genotypes: Mapping[str, Genotype], repeats: int
) -> dict[str, float]:
    """Folder -> median latency in ms of the derived network, all side by side, equal ones once."""
    distinct = {genotype.text(): genotype for genotype in genotypes.values()}
    found, _ = measure_derived(distinct, table, repeats=repeats)
    return {folder: found[genotype.text()].median for folder, genotype in genotypes.items()}


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    data = args.data and str(Path(args.data).absolute())
    small = Small(args.channels, args.layers, args.nodes, args.size, args.epochs, data)
    cfg = base_config(small)
    prepare([cfg], splits=("train",))
    work = Path(args.work_dir).absolute()
    # Not the seeds and points, which stand in the names of the folders: more may be added.
    check_identity(
        work,
        dict(config=cfg.pretty_text, paper_ms=args.paper_ms, paper_steps=args.paper_steps),
    )
    table, path = measured_table(work, small, args.repeats)
    mean = mean_latency(table)
    scale = args.paper_ms / mean if args.paper_ms else 1.0
    steps = small.epochs * math.ceil(images_of_half(cfg) / BASELINE.batch)
    rate_scale = args.paper_steps / steps if args.paper_steps else 1.0
    print(
        f"a derived network takes {mean:.3f} ms in the mean: latency weights times {scale:.3g}; a search "
        f"takes {steps} steps: alpha's learning rates times {rate_scale:.3g}"
    )
    tasks = {
        f"{point}/seed{seed}": Task(point, seed, small, str(path), scale, rate_scale)
        for seed in range(args.seeds)
        for point in points(args.only)
    }
    tell_time(tasks, work, args.workers)
    if args.estimate:
        return
    results = run_all(perform, tasks, work, args.workers, "searches")
    genotypes = {folder: Genotype.parse(r["genotype"]) for folder, r in results.items()}
    measured = measure(table, genotypes, args.repeats)
    runs = [
        dict(
            result,
            # Without the paths of this machine.
            task={key: result["task"][key] for key in ("point", "seed")},
            folder=folder,
            predicted=sum(table.predict(genotypes[folder]).values()),
            measured=measured[folder],
        )
        for folder, result in results.items()
    ]
    content = dict(
        scale=scale, rate_scale=rate_scale, mean_latency=mean, table=table.to_dict(), runs=runs
    )
    command = f"python studies/latency_sensitivity.py {' '.join(argv or sys.argv[1:])}".strip()
    page = Path(args.out)
    numbers = page.with_name(f"{page.stem}-latency.json")
    write_text(numbers, json.dumps(content, indent=1) + "\n")
    write_page(page, runs, table, small, scale, rate_scale, args.only, command)
    print(f"wrote {page} and {numbers}")


if __name__ == "__main__":
    command_line.run(main, hint="the same command goes on")
