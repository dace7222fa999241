"""Generate the small data set: images of shapes with boxes and masks, in COCO format."""

import argparse
from collections.abc import Sequence

from rarts_mm.apis import command_line
from rarts_mm.datasets import make_shapes


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
        default=["circle", "rectangle", "triangle"],
        help="kinds of shapes, in the order of their labels",
    )
    parser.add_argument(
        "--force", action="store_true", help="replace a generated data set of other arguments"
    )
    args = vars(parser.parse_args(argv))
    out = args.pop("out")
    try:
        made = make_shapes(out, **args)
    except (ValueError, FileExistsError) as error:
        raise command_line.UsageError(str(error)) from error
    if made:
        print(f"wrote {args['train']} training and {args['val']} validation images to {out}")
    else:
        print(f"{out} already holds this data set")


if __name__ == "__main__":
    command_line.run(main)
