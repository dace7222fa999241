"""The whole chain on one search config: baseline, search, prune, fine-tune, test.

Interrupted, the same command goes on where it stopped.
"""

import argparse
from collections.abc import Sequence

from rarts_mm.apis import command_line, compress
from rarts_mm.apis.pruning_arguments import (
    add_pruning_arguments,
    read_max_drop,
    read_ranking,
    read_targets,
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=command_line.config_path, help="search config")
    add_pruning_arguments(parser)
    parser.add_argument(
        "--checkpoint", help="the trained, unpruned model; default: load_from, else it is trained"
    )
    parser.add_argument("--work-dir", metavar="DIR", help="folder for everything")
    parser.add_argument(
        "--control",
        action="store_true",
        help="also train the baseline on, for as many steps as search and fine-tuning took",
    )
    parser.add_argument(
        "--distill",
        action="store_true",
        help="also fine-tune with the baseline as the teacher",
    )
    parser.add_argument(
        "--scratch",
        action="store_true",
        help="also train the pruned architectures from random weights",
    )
    parser.add_argument(
        "--steps",
        type=int,
        default=1,
        metavar="N",
        help="prunings in which a target is reached, the same share each, with a fine-tuning after each and, "
        "where scores rank, a new search before the next (default: 1)",
    )
    parser.add_argument(
        "--verbose",
        action="store_true",
        help="show all that the stages print; by default it is in DIR/logs alone",
    )
    command_line.add_cfg_options(parser, "override settings")
    command_line.add_trust(parser)
    args = parser.parse_args(argv)
    if not (args.ratio or args.params or args.flops or args.max_drop is not None):
        parser.error("give --ratio (for example --ratio 0.4), --params, --flops or --max-drop")
    args.how = read_ranking(parser, args)
    args.targets = read_max_drop(parser, args) or read_targets(args)
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    # In the environment, so that every stage knows.
    with command_line.trusting(args.trust_checkpoint):
        compress(
            args.config,
            args.targets,
            checkpoint=args.checkpoint,
            work_dir=args.work_dir,
            control=args.control,
            how=args.how,
            distill=args.distill,
            scratch=args.scratch,
            steps=args.steps,
            options=args.cfg_options,
            verbose=args.verbose,
        )
