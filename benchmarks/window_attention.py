"""Time of window attention: the library's own, with scores, and sliced, plain and fused.

    python benchmarks/window_attention.py --threads 1
    python benchmarks/window_attention.py --threads 2 --batch 16 --training

A row for each stage of Swin-T at 224 x 224 pixels, without and with the mask of shifted windows.
"""

import argparse
import copy
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext

import torch
from mmpretrain.models.utils.attention import WindowMSA
from torch import Tensor, nn

from rarts_mm.analysis import ResultsTable, environment
from rarts_mm.apis import command_line
from rarts_mm.files import write_text
from rarts_mm.widths import SlicedWindowMSA, insert_scores, slice_network
from steps.timing import quartiles, time_in_turns

HEAD_DIM, WINDOW = 32, 7
# Windows of an image and heads, stage by stage.
STAGES = ((64, 3), (16, 6), (4, 12), (1, 24))
HOST, SCORED = "library", "scored"


class PlainWindowMSA(SlicedWindowMSA):
    """Never fused."""

    def _fused(self, x: Tensor) -> bool:
        return False


class FusedWindowMSA(SlicedWindowMSA):
    """Always fused."""

    def _fused(self, x: Tensor) -> bool:
        return True


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 16], help="default: 1 16")
    parser.add_argument(
        "--head-dims",
        nargs="+",
        type=int,
        default=[32, 24, 19, 16, 8],
        help="of the sliced layers (default: 32 24 19 16 8)",
    )
    parser.add_argument(
        "--stages", nargs="+", type=int, choices=range(1, 5), default=[1, 2, 3, 4], help="of Swin-T"
    )
    parser.add_argument("--training", action="store_true", help="forward and backward pass")
    parser.add_argument("--repeats", type=int, default=10, help="timed rounds (default: 10)")
    parser.add_argument("--threads", type=int, help="CPU threads; default: torch's choice")
    parser.add_argument("--json", metavar="OUT", help="write the results to this file")
    args = parser.parse_args(argv)
    for name in ("repeats", "threads"):
        if (value := getattr(args, name)) is not None and value < 1:
            parser.error(f"--{name} {value}: give at least 1")
    if min(args.batch) < 1:
        parser.error(f"--batch {min(args.batch)}: give at least 1")
    if bad := [d for d in args.head_dims if not 1 <= d <= HEAD_DIM]:
        parser.error(f"--head-dims {bad[0]}: give numbers from 1 to {HEAD_DIM}, the library's")
    return args


def layers_of(heads: int, head_dims: Sequence[int], training: bool) -> dict[str, nn.Module]:
    """The library's layer, it with scores, and sliced ones."""
    torch.manual_seed(0)
    host = WindowMSA(heads * HEAD_DIM, (WINDOW, WINDOW), heads).train(training)
    scored = copy.deepcopy(host)
    insert_scores(scored, include="")
    layers = {HOST: host, SCORED: scored}
    for size in head_dims:
        for kind in (PlainWindowMSA,) if training else (PlainWindowMSA, FusedWindowMSA):
            sliced = slice_network(copy.deepcopy(scored), {"": range(size)})
            sliced.__class__ = kind
            layers[_label(size, kind)] = sliced
    return layers


def calls_of(
    layers: Mapping[str, nn.Module], x: Tensor, mask: Tensor | None, training: bool
) -> dict[str, Callable[[], object]]:
    """What is timed: a forward pass, in training with the backward pass."""
    if not training:
        return {name: (lambda layer=layer: layer(x, mask)) for name, layer in layers.items()}
    return {
        name: (lambda layer=layer: layer(x, mask).sum().backward())
        for name, layer in layers.items()
    }


def _label(size: int, kind: type) -> str:
    return f"{size}, fused" if kind is FusedWindowMSA else f"{size}"


def measure(args: argparse.Namespace) -> dict:
    """All measurements, ready for JSON."""
    if args.threads:
        torch.set_num_threads(args.threads)
    rows = []
    for batch in args.batch:
        for stage in args.stages:
            windows, heads = STAGES[stage - 1]
            layers = layers_of(heads, args.head_dims, args.training)
            # An input of an inner layer: its gradient is wanted.
            x = torch.randn(batch * windows, WINDOW**2, heads * HEAD_DIM).requires_grad_(
                args.training
            )
            for masked in (False, True):
                mask = torch.zeros(windows, WINDOW**2, WINDOW**2) if masked else None
                calls = calls_of(layers, x, mask, args.training)
                repeats = args.repeats * (4 if batch == 1 else 1)
                with nullcontext() if args.training else torch.inference_mode():
                    seconds = time_in_turns(calls, repeats, 2, "cpu")["wall"]
                rows.append(
                    dict(
                        batch=batch,
                        stage=stage,
                        mask=masked,
                        milliseconds=1000 * quartiles(seconds[HOST])["median"],
                        # Of the calls of one round, which a busy machine slows down alike.
                        ratios={
                            name: quartiles([a / b for a, b in zip(t, seconds[HOST], strict=True)])
                            for name, t in seconds.items()
                        },
                    )
                )
    return {
        "environment": environment() | dict(load=os.getloadavg()[0]),
        "setting": vars(args),
        "layers": rows,
    }


def table(results: dict) -> ResultsTable:
    """Medians of the ratios to the library's layer."""
    where, rows = results["environment"], results["layers"]
    names = [name for name in rows[0]["ratios"] if name != HOST]
    return ResultsTable(
        {"batch": None, "stage": None, "mask": None, HOST: "ms"}
        | dict.fromkeys(names, "{:.2f}".format),
        [
            [
                row["batch"],
                row["stage"],
                "yes" if row["mask"] else "no",
                row["milliseconds"],
                *(row["ratios"][name]["median"] for name in names),
            ]
            for row in rows
        ],
        title="Window attention by the library's: with scores, and with narrower heads",
        notes=f"{where['device']}, {where['threads']} threads, torch {where['torch']}, {where['date']}, "
        f"load {where['load']:.1f}",
    )


def main(argv: Sequence[str] | None = None) -> dict:
    args = parse_args(argv)
    results = measure(args)
    table(results).print()
    if args.json:
        write_text(args.json, json.dumps(results, indent=1) + "\n")
        print(f"wrote {args.json}")
    return results


if __name__ == "__main__":
    command_line.run(main)
