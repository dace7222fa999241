"""Derive a topology search's architecture: its genotype, a picture, the config that trains it.

Without SEARCH_DIR it takes the newest topology search under work_dirs/.
"""

import argparse
from collections.abc import Sequence

from rarts_mm.apis import command_line, derive
from rarts_mm.invocation import spelled


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "search_dir", nargs="?", metavar="SEARCH_DIR", help="work dir of the search"
    )
    parser.add_argument(
        "--network",
        metavar="NETWORK",
        help="what the cells are trained in: cifar (default), imagenet, or the path of a config whose "
        "model.backbone takes a genotype",
    )
    parser.add_argument(
        "--checkpoint",
        default="last",
        metavar="CHECKPOINT",
        help="of the search: last (default), best (by validation: best_*.pth), or a file",
    )
    parser.add_argument(
        "--latency",
        metavar="TABLE",
        help=f"JSON file of {spelled('latency-table')}: predict the network's latency from it, and measure "
        "it; default: that of the search's latency penalty, if it is there",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="where to write; default: derived_<network> in the search's folder",
    )
    command_line.add_cfg_options(parser, "settings of the retraining config to override")
    command_line.add_trust(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    with command_line.trusting(args.trust_checkpoint):
        derive(
            args.search_dir,
            args.network,
            args.checkpoint,
            args.out,
            args.cfg_options,
            args.latency,
        ).print()
