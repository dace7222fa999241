"""Measure every operation of a topology search's network: the table that the latency penalty reads."""

import argparse
from collections.abc import Sequence

from rich.console import Console
from rich.progress import Progress, TimeRemainingColumn

from rarts_mm.apis import command_line
from rarts_mm.apis.latency_table import DEVICES, make_latency_table


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=command_line.config_path, help="config of a topology search")
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="default: cpu")
    parser.add_argument(
        "--out", metavar="FILE", help="default: work_dirs/latency/<config>_<device>.json"
    )
    parser.add_argument("--batch-size", type=int, default=1, help="images at a time (default: 1)")
    parser.add_argument(
        "--input-size",
        type=int,
        nargs="+",
        metavar="PIXELS",
        help="side of the images, or height and width; default: what the config trains on",
    )
    parser.add_argument("--repeats", type=int, default=30, help="timed rounds (default: 30)")
    parser.add_argument("--threads", type=int, help="of torch on a CPU; default: torch's choice")
    command_line.add_cfg_options(parser, "override settings")
    args = parser.parse_args(argv)
    if args.input_size is not None:
        if len(args.input_size) > 2:
            parser.error("--input-size takes one side, or height and width")
        args.input_size = [args.input_size[0], args.input_size[-1]]
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    columns = (*Progress.get_default_columns()[:-1], TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("measuring", total=None)
        table, out = make_latency_table(
            args.config,
            args.device,
            args.out,
            args.batch_size,
            args.input_size,
            args.repeats,
            args.threads,
            args.cfg_options,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    network, measured = table.network, table.measured
    height, width = network["input_size"]
    print(
        f"{network['type']}, {network['layers']} cells, C = {network['channels']}, {height} x {width} "
        f"pixels, {measured['batch_size']} at a time; {measured['device']}, {measured['dtype']}, "
        f"{measured['threads']} threads"
    )
    for shape in table.shapes:
        channels, height, width = shape.input
        where = ", ".join(f"{number} {kind}" for kind, number in shape.places.items())
        print(f"\n{channels} x {height} x {width}, stride {shape.stride} ({where} edges)")
        for name, latency in shape.operations.items():
            print(
                f"  {name:14} {latency.median:9.4f} ms ({latency.lower:.4f} to {latency.upper:.4f})"
            )
    print(
        f"\nwrote {out}; use it: optim_wrapper.penalty=dict(type='LatencyPenalty', latencies=...)"
    )
