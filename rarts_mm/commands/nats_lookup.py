"""Look up the test accuracy that NATS-Bench has measured of an architecture.

The benchmark's files are pickles, which run code when they are read: give a folder that you trust.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rarts_mm.cells.nats import LookUp, NATSArchitecture
from rarts_mm.cells.nats.lookup import DATASETS


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "architecture",
        metavar="ARCH",
        help="string such as '|none~0|+|none~0|none~1|+|none~0|none~1|none~2|', or a file with it or "
        "with its JSON (genotype.json of a search)",
    )
    parser.add_argument("--dataset", choices=DATASETS, default="cifar10")
    parser.add_argument(
        "--path",
        help="folder of the benchmark's files; default: $TORCH_HOME/NATS-tss-v1_0-3ffb9-simple",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    text = args.architecture
    if "|" not in text and Path(text).is_file():
        text = Path(text).read_text(encoding="utf-8", errors="replace")
    architecture = NATSArchitecture.parse(text)
    benchmark = LookUp(args.path)
    accuracy = benchmark.accuracy(architecture, args.dataset)
    print(architecture.text())
    print(f"index in the benchmark: {benchmark.index(architecture)}")
    print(f"skip share: {architecture.skip_share:.1%}")
    print(f"test accuracy on {args.dataset}, 200 epochs, mean over seeds: {accuracy:.2f} %")
