"""Time, multiply-adds and memory of one search step, beside one step of joint training.

Every alternation that is registered takes steps on the same pair of batches, from the same weights,
in one process and in turns. Joint training (one network, one forward and one backward pass for each
of the two batches) is what the others are compared with.

    python benchmarks/search_step.py
    python benchmarks/search_step.py --model detector --threads 1 --json result.json
"""

import argparse
import gc
import json
from collections.abc import Sequence
from dataclasses import asdict

import torch
from mmengine.logging import MMLogger
from rich.console import Console
from rich.table import Table

from rarts_mm.analysis import count_parameters, environment
from rarts_mm.apis import command_line
from rarts_mm.files import write_text
from rarts_mm.search import Joint
from steps.peak_memory import PeakMemory, peak_memory
from steps.products import Pass, count_passes
from steps.settings import SETTINGS, VARIANTS, build_search, search_config
from steps.timing import quartiles, time_in_turns

BASE = Joint.__name__


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=sorted(SETTINGS), default="swin-classifier")
    parser.add_argument(
        "--search",
        nargs="+",
        choices=list(VARIANTS),
        help=f"alternations to compare with {BASE}; default: all that the model can take",
    )
    parser.add_argument("--batch", type=int, help="images in each of the two batches")
    parser.add_argument("--size", type=int, help="pixels of an image's side")
    parser.add_argument("--repeats", type=int, default=20, help="timed rounds (default: 20)")
    parser.add_argument("--warmup", type=int, default=3, help="rounds before (default: 3)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, help="CPU threads; default: torch's choice")
    parser.add_argument(
        "--amp", choices=["bfloat16", "float16"], help="mixed precision while timing"
    )
    parser.add_argument(
        "--time-only",
        action="store_true",
        help="leave out products and memory (the profiler takes minutes with many small operations)",
    )
    parser.add_argument("--json", metavar="OUT", help="write the results to this file")
    args = parser.parse_args(argv)
    setting = SETTINGS[args.model]
    args.batch = setting.batch if args.batch is None else args.batch
    args.size = setting.size if args.size is None else args.size
    if args.search is None:
        args.search = [name for name in VARIANTS if not (setting.once and "exact" in name)]
    for name in ("batch", "repeats", "threads"):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f"--{name} {value}: give at least 1")
    if args.warmup < 1:
        parser.error(f"--warmup {args.warmup}: the first step makes the optimisers' states; give 1")
    if args.size < setting.least or args.size % setting.multiple:
        parser.error(
            f"--size {args.size}: the last map of {args.model} would be too small or of a fraction of a "
            f"pixel; give a multiple of {setting.multiple} from {setting.least} on"
        )
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no GPU here; leave --device out")
    return args


def measure(args: argparse.Namespace) -> dict:
    """All measurements, ready for JSON."""
    if args.threads:
        torch.set_num_threads(args.threads)
    setting = SETTINGS[args.model]
    cfg = search_config(setting, args.size)
    batches = setting.batches(cfg, args.batch, args.size)
    names = [BASE, *(name for name in args.search if name != BASE)]

    passes: dict[str, list[Pass]] = {}
    memory: dict[str, PeakMemory] = {}
    for name in () if args.time_only else names:
        # Alone, and without mixed precision for the count.
        search = build_search(cfg, name, batches, args.device)
        passes[name] = count_passes(search.model, search)
        if args.amp:
            search = build_search(cfg, name, batches, args.device, args.amp)
            search()
        memory[name] = peak_memory(search)
        del search
        gc.collect()

    searches = {name: build_search(cfg, name, batches, args.device, args.amp) for name in names}
    seconds = time_in_turns(searches, args.repeats, args.warmup, args.device)

    network = searches[BASE].model.auxiliary
    work = {name: sum(p.total for p in passes[name]) for name in passes}
    return {
        "environment": environment(network),
        "setting": {
            "model": args.model,
            "parameters": count_parameters(network),
            "batch": args.batch,
            "size": args.size,
            "amp": args.amp,
            "repeats": args.repeats,
            "steps": setting.steps if args.batch == setting.published_batch else None,
            "optimizer": str(cfg.optim_wrapper.weights.optimizer.type),
        },
        "searches": {
            name: {
                "seconds": {clock: quartiles(times[name]) for clock, times in seconds.items()},
                # Of the two steps of one round, which a busy machine slows down alike.
                "ratio": {
                    clock: quartiles([a / b for a, b in zip(times[name], times[BASE], strict=True)])
                    for clock, times in seconds.items()
                },
            }
            | (
                {
                    "multiply_adds": work[name],
                    "multiply_adds_ratio": work[name] / work[BASE],
                    "passes": [asdict(p) for p in passes[name]],
                    "memory": asdict(memory[name]) | {"total": memory[name].total},
                    "memory_ratio": memory[name].total / memory[BASE].total,
                }
                if name in passes
                else {}
            )
            for name in names
        },
    }


def show(results: dict) -> None:
    """Print the results as three tables."""
    setting, where, rows = results["setting"], results["environment"], results["searches"]
    console = Console()
    console.print(
        f"{setting['model']} of {setting['parameters'] / 1e6:.2f} M parameters, two batches of "
        f"{setting['batch']} x {setting['size']} x {setting['size']}, {setting['optimizer']}, "
        f"{setting['amp'] or where['dtype']}\n"
        f"{where['device']}, {where['threads']} threads, torch {where['torch']}, {where['date']}"
    )
    columns = ["search", "clock", "ms", "quartiles", f"by {BASE}", "quartiles"]
    steps, title = 0, "Time of a step"
    if setting["steps"]:
        per_epoch, epochs = setting["steps"]
        steps = per_epoch * epochs
        columns.append("hours")
        title += f"; hours: of {epochs} epochs of {per_epoch} steps, data loading left out"
    table = _table(title, *columns)
    for name, row in rows.items():
        for clock in row["seconds"]:
            cells = []
            for key, form in (("seconds", _milliseconds), ("ratio", "{:.3f}".format)):
                values = row[key][clock]
                span = f"{form(values['lower'])} to {form(values['upper'])}"
                cells += [form(values["median"]), span]
            if steps:
                cells.append(f"{steps * row['seconds'][clock]['median'] / 3600:.2f}")
            table.add_row(name, clock, *cells)
    console.print(table)
    if "passes" not in rows[BASE]:
        return

    table = _table(
        "Work and memory of a step",
        *("search", "G mult-adds", f"by {BASE}"),
        *("MiB kept", "+ peak", "= total", f"by {BASE}"),
    )
    for name, row in rows.items():
        memory = [f"{row['memory'][key] / 2**20:.1f}" for key in ("standing", "step", "total")]
        work = [f"{row['multiply_adds'] / 1e9:.3f}", f"{row['multiply_adds_ratio']:.3f}"]
        table.add_row(name, *work, *memory, f"{row['memory_ratio']:.3f}")
    console.print(table)

    table = _table(
        "Passes of a step, G multiply-adds",
        *("search", "network", "gradients of", "forward", "backward", "for weights"),
    )
    for name, row in rows.items():
        for p in row["passes"]:
            macs = (p["forward"], p["backward"], p["weight_gradients"])
            wanted = ", ".join(p["gradients_of"])
            table.add_row(name, p["network"], wanted, *(f"{m / 1e9:.3f}" for m in macs))
    console.print(table)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for column in columns:
        words = column in ("search", "clock", "network", "gradients of")
        table.add_column(column, justify="left" if words else "right")
    return table


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f}"


def main(argv: Sequence[str] | None = None) -> dict:
    args = parse_args(argv)
    # Initialisers and optimisers tell MMEngine's current logger about every parameter.
    MMLogger.get_instance("search_step", log_level="ERROR")
    results = measure(args)
    show(results)
    if args.json:
        write_text(args.json, json.dumps(results, indent=2) + "\n")
        print(f"wrote {args.json}")
    return results


if __name__ == "__main__":
    command_line.run(main)
