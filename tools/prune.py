"""Prune a search: rank its scores, make the network smaller, prove it, write it.

Without CONFIG and CHECKPOINT it takes the newest search under work_dirs/.
"""

import argparse
import shlex
from collections.abc import Sequence

from rarts_mm.apis import command_line, draw_curve, latest_search, list_units, prune
from rarts_mm.widths import CRITERIA


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="?", help="config of the search")
    parser.add_argument("checkpoint", nargs="?", help="checkpoint of the search")
    parser.add_argument(
        "--ratio", nargs="+", default=[], help="share(s) of all scores to remove, e.g. 0.2 0.4"
    )
    parser.add_argument(
        "--out", metavar="DIR", help="where to write; default: pruned_<percent> by the checkpoint"
    )
    parser.add_argument(
        "--keep",
        choices=["auxiliary", "primary", "mean"],
        help="weights that go on: w, u or their mean; default: the config's model.keep",
    )
    parser.add_argument(
        "--min-keep", type=int, default=1, metavar="N", help="dimensions that every layer keeps"
    )
    parser.add_argument(
        "--criterion",
        choices=list(CRITERIA),
        default="alpha",
        help="what is ranked: the scores' |alpha| (default); the L1 norm of the weights that write a "
        "dimension, within its layer; or random numbers",
    )
    parser.add_argument(
        "--seed", type=int, metavar="N", help="seed of --criterion random (default: 0)"
    )
    parser.add_argument(
        "--curve",
        action="store_true",
        help="evaluate the masked network at ratios 0.1 to 0.8 first: table and plot",
    )
    parser.add_argument(
        "--list",
        action="store_true",
        help="only list what can be scored in CONFIG's network, and what is left out and why",
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=command_line.CfgOptions,
        metavar="KEY=VALUE",
        help="override settings",
    )
    args = parser.parse_args(argv)
    if args.list:
        if args.config is None or args.checkpoint or args.ratio or args.curve:
            parser.error("--list takes CONFIG and nothing to prune: tools/prune.py --list CONFIG")
        return args
    if (args.config is None) != (args.checkpoint is None):
        parser.error("give both CONFIG and CHECKPOINT, or neither for the newest search")
    if not args.ratio and not args.curve:
        parser.error("nothing to do: give --ratio (for example --ratio 0.4), --curve or both")
    if args.seed is not None and args.criterion != "random":
        parser.error(f"--seed {args.seed}: only --criterion random draws; leave --seed out")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    config, checkpoint = args.config, args.checkpoint
    if args.list:
        list_units(config, args.cfg_options).print()
        return
    if config is None:
        config, checkpoint = latest_search()
        print(f"newest search: {config}, {checkpoint}")
    shared = dict(keep=args.keep, min_keep=args.min_keep, options=args.cfg_options)
    shared |= dict(criterion=args.criterion, seed=args.seed or 0)
    if args.curve:
        draw_curve(config, checkpoint, out=args.out, **shared)
    if not args.ratio:
        return
    for result in prune(config, checkpoint, args.ratio, out=args.out, **shared):
        result.costs.print(title=f"{100 * result.ratio:g} % of the scores pruned")
        print(result.proof)
        print(f"wrote {result.folder}/pruned.py, pruned.pth, widths.json, widths.png")
        print(f"next: python tools/train.py {shlex.quote(str(result.folder / 'pruned.py'))}\n")


if __name__ == "__main__":
    command_line.run(main)
