"""Write scikit-learn's handwritten digits (8 x 8 pixels, real) as images in MMPretrain's format."""

import argparse
from collections.abc import Sequence

from rarts_mm.datasets import make_digits
from rarts_mm.datasets.digits import SPLITS


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--out", default="data/digits", metavar="DIR", help="folder to write")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the split into training, validation and test"
    )
    parser.add_argument(
        "--force", action="store_true", help="replace a data set that was made with another seed"
    )
    args = vars(parser.parse_args(argv))
    if make_digits(**args):
        counts = ", ".join(f"{count} {split}" for split, count in SPLITS.items())
        print(f"wrote {counts} images to {args['out']}")
    else:
        print(f"{args['out']} already holds this data set")
