"""The options that say what to prune to and how: of ``tools/prune.py`` and ``tools/compress.py``."""

import argparse

from rarts_mm.widths import CRITERIA
from rarts_mm.widths.budgets import SCOPES
from rarts_mm.widths.derivatives import FROM_DATA

from .max_drop import MaxDrop
from .plans import Ranking
from .targets import FLOPS, PARAMETERS, SCORES, Target, parse_target


def add_pruning_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare them."""
    asked = parser.add_argument_group("what is asked for (several values: one search serves all)")
    asked.add_argument(
        "--ratio",
        nargs="+",
        default=[],
        help="share(s) of all scores to remove, e.g. 0.2 0.4; auto: those that are exactly zero",
    )
    asked.add_argument(
        "--params",
        nargs="+",
        default=[],
        metavar="BUDGET",
        help="parameters that may remain: a share, e.g. 0.6, or a number, e.g. 22M",
    )
    asked.add_argument(
        "--flops",
        nargs="+",
        default=[],
        metavar="BUDGET",
        help="multiply-adds for one image that may remain: a share, e.g. 0.6, or a number, e.g. 300G",
    )
    asked.add_argument(
        "--max-drop",
        type=float,
        metavar="POINTS",
        help="points that a validation metric may fall before fine-tuning, e.g. 0.5 (box AP 0.653 to 0.648): "
        "the largest --ratio that keeps to it is found by bisection and taken",
    )
    asked.add_argument(
        "--metric",
        help="what --max-drop looks at, e.g. coco/segm_mAP; default: box AP, top-1 or the only one",
    )
    asked.add_argument(
        "--of",
        choices=["backbone", "model"],
        help="what the budget counts; default: the backbone, if every score costs something there",
    )
    asked.add_argument(
        "--input-size",
        nargs=2,
        type=int,
        metavar=("H", "W"),
        help="size of the image that FLOPs are counted for; default: the config's test pipeline's",
    )
    how = parser.add_argument_group("how dimensions are ranked")
    how.add_argument(
        "--criterion",
        choices=list(CRITERIA),
        default=Ranking.criterion,
        help="the scores' |alpha| (default), that times the norm of the weights it multiplies, or over "
        "the dimension's cost; the L1 norm of the weights that write a dimension, or their distance to the layer's others, within its layer; "
        "random numbers; or what the training loss changes by as it goes: to first order (taylor), or to "
        "second order over the memory of its maps (fisher)",
    )
    how.add_argument(
        "--seed", type=int, metavar="N", help="seed of --criterion random (default: 0)"
    )
    how.add_argument(
        "--images",
        type=int,
        metavar="N",
        help="training images that --criterion taylor and fisher look at (default: 256)",
    )
    how.add_argument(
        "--scope",
        choices=SCOPES,
        default=Ranking.scope,
        help="what is compared: all with all (default); each layer by itself, the same share of each; "
        "each type by itself (attention and MLP apart)",
    )
    how.add_argument(
        "--round-to",
        type=int,
        default=Ranking.round_to,
        metavar="N",
        help="widths are multiples of N (8 suits many processors), filled up to the budget",
    )
    how.add_argument(
        "--min-keep",
        type=int,
        default=Ranking.min_keep,
        metavar="N",
        help="dimensions that every layer keeps",
    )


def read_targets(args: argparse.Namespace) -> list[Target]:
    """What is asked for, in the order of the options; empty for nothing.

    Raises:
        UsageError: a value that is no share and no budget.
    """
    asked = ((SCORES, args.ratio), (PARAMETERS, args.params), (FLOPS, args.flops))
    return [parse_target(quantity, text) for quantity, texts in asked for text in texts]


def read_max_drop(parser: argparse.ArgumentParser, args: argparse.Namespace) -> MaxDrop | None:
    """How far a metric may fall; what goes with other targets, or with none, ends the program.

    Raises:
        UsageError: no number of points.
    """
    if args.max_drop is None:
        if args.metric is not None:
            parser.error(f"--metric {args.metric}: only --max-drop looks at it; leave --metric out")
        return None
    if args.ratio or args.params or args.flops:
        parser.error(
            "--max-drop finds how much can go: leave --ratio, --params and --flops out, or --max-drop"
        )
    return MaxDrop(args.max_drop, args.metric)


def read_ranking(parser: argparse.ArgumentParser, args: argparse.Namespace) -> Ranking:
    """How dimensions are ranked; options that nothing would read end the program."""
    if args.seed is not None and args.criterion != "random":
        parser.error(f"--seed {args.seed}: only --criterion random draws; leave --seed out")
    if args.images is not None:
        if args.criterion not in FROM_DATA:
            parser.error(
                f"--images {args.images}: only --criterion {' and '.join(FROM_DATA)} look at images; leave "
                "--images out"
            )
        if args.images < 1:
            parser.error(f"--images {args.images}: at least one image is needed")
    if args.of is not None and not (args.params or args.flops):
        parser.error(f"--of {args.of}: only --params and --flops are budgets; leave --of out")
    return Ranking(
        criterion=args.criterion,
        seed=args.seed or 0,
        scope=args.scope,
        round_to=args.round_to,
        min_keep=args.min_keep,
        images=args.images or Ranking.images,
        of=args.of,
        input_size=None if args.input_size is None else tuple(args.input_size),
    )
