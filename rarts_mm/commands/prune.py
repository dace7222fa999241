"""Prune a search: rank its scores, make the network smaller, prove it, write it.

Without CONFIG and CHECKPOINT it takes the newest search under work_dirs/.
"""

import argparse
from collections.abc import Sequence

from rarts_mm.apis import (
    Extras,
    checkpoint_in,
    choose_ratio,
    command_line,
    draw_curve,
    latest_search,
    list_units,
    prune,
)
from rarts_mm.apis.pruning_arguments import (
    add_pruning_arguments,
    read_max_drop,
    read_ranking,
    read_targets,
)
from rarts_mm.invocation import spelled


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "config", type=command_line.config_path, nargs="?", help="config of the search"
    )
    parser.add_argument(
        "checkpoint",
        nargs="?",
        help="checkpoint of the search, or the work dir that holds it; with --criterion magnitude or random "
        "also one of the plain model",
    )
    add_pruning_arguments(parser)
    parser.add_argument(
        "--out", metavar="DIR", help="where to write; default: pruned_<percent> by the checkpoint"
    )
    parser.add_argument(
        "--keep",
        choices=["auxiliary", "primary", "mean"],
        help="weights that go on: w, u or their mean; default: the config's model.keep",
    )
    parser.add_argument(
        "--distill",
        nargs=2,
        metavar=("TEACHER_CONFIG", "TEACHER_CKPT"),
        help="also write distill.py, which fine-tunes with the teacher's knowledge",
    )
    parser.add_argument(
        "--scratch",
        action="store_true",
        help="also write scratch.py, which trains the pruned architecture from random weights",
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
    command_line.add_cfg_options(parser, "override settings")
    command_line.add_trust(parser)
    args = parser.parse_args(argv)
    asked = args.ratio or args.params or args.flops or args.max_drop is not None
    if args.list:
        others = {k for k, v in vars(args).items() if v != parser.get_default(k)}
        if args.config is None or others - {"list", "config", "cfg_options"}:
            parser.error(
                f"--list takes CONFIG and nothing to prune (only --cfg-options besides): {spelled('prune')} --list CONFIG"
            )
        return args
    if (args.config is None) != (args.checkpoint is None):
        parser.error("give both CONFIG and CHECKPOINT, or neither for the newest search")
    if not asked and not args.curve:
        parser.error(
            "nothing to do: give --ratio (for example --ratio 0.4), --params, --flops, --max-drop or --curve"
        )
    if not asked and (args.distill or args.scratch):
        parser.error(
            "--distill and --scratch write configs of a pruned model: give --ratio or a budget"
        )
    args.how = read_ranking(parser, args)
    args.drop = read_max_drop(parser, args)
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    config, checkpoint = args.config, args.checkpoint
    if args.list:
        list_units(config, args.cfg_options).print()
        return
    targets = read_targets(args)
    with command_line.trusting(args.trust_checkpoint):
        if config is None:
            config, checkpoint = latest_search()
            print(f"newest search: {config}, {checkpoint}")
        checkpoint = checkpoint_in(checkpoint)
        shared = dict(keep=args.keep, how=args.how, options=args.cfg_options)
        if args.curve:
            draw_curve(config, checkpoint, out=args.out, **shared)
        tables = {}
        if args.drop is not None:
            choice = choose_ratio(config, checkpoint, args.drop, **shared)
            choice.table.print()
            print(choice.summary, end="\n\n")
            targets, tables = [choice.target], {"max_drop": choice.table}
        if not targets:
            return
        extras = Extras(tuple(args.distill) if args.distill else None, args.scratch, tables)
        for result in prune(config, checkpoint, targets, out=args.out, extras=extras, **shared):
            result.print()
            print()
