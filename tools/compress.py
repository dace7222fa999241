"""The whole chain on one search config: baseline, search, prune, fine-tune, test.

Interrupted, the same command goes on where it stopped.
"""

import argparse
from collections.abc import Sequence

from rarts_mm.apis import command_line, compress


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="search config")
    parser.add_argument(
        "--ratio", required=True, nargs="+", help="share(s) of all scores to remove, e.g. 0.2 0.4"
    )
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
        "--cfg-options",
        nargs="+",
        action=command_line.CfgOptions,
        metavar="KEY=VALUE",
        help="override settings",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    compress(
        args.config,
        args.ratio,
        checkpoint=args.checkpoint,
        work_dir=args.work_dir,
        control=args.control,
        options=args.cfg_options,
    )


if __name__ == "__main__":
    command_line.run(main, hint="the same command goes on from here")
