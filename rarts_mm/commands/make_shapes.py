"""Generate the small data set: images of shapes with boxes and masks, in COCO format."""

import argparse
from collections.abc import Sequence

from rarts_mm.datasets import make_shapes
from rarts_mm.datasets.shapes import CLASSES, DEFAULT_CLASSES, DEFAULT_CUE


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--out", default="data/shapes", metavar="DIR", help="folder to write")
    parser.add_argument("--train", type=int, default=400, help="number of training images")
    parser.add_argument("--val", type=int, default=100, help="number of validation images")
    parser.add_argument("--size", type=int, default=96, help="height and width in pixels")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random")
    parser.add_argument(
        "--classes",
        nargs="+",
        default=list(DEFAULT_CLASSES),
        metavar="CLASS",
        help=f"kinds of shapes, in the order of their labels, out of {', '.join(CLASSES)}",
    )
    parser.add_argument(
        "--cue",
        type=float,
        default=DEFAULT_CUE,
        metavar="SHARE",
        help="share of the shapes whose colour is near their class's; with 0 only outlines tell",
    )
    parser.add_argument(
        "--force", action="store_true", help="replace a generated data set of other arguments"
    )
    args = vars(parser.parse_args(argv))
    if make_shapes(**args):
        print(
            f"wrote {args['train']} training and {args['val']} validation images to {args['out']}"
        )
    else:
        print(f"{args['out']} already holds this data set")
