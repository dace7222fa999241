"""Draw some classes of ImageNet, by default the thesis' ImageNet-20: 20 classes, 26,000 + 1,000 images.

Writes classes.txt, train.txt and val.txt for MMPretrain's CustomDataset; the images stay where they are.
"""

import argparse
from collections.abc import Sequence

from rarts_mm.datasets import make_imagenet_subset


def number_or_all(text: str) -> int | None:
    return None if text == "all" else int(text)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "imagenet",
        help="folder with train/<class>/*.JPEG, and val/<class>/*.JPEG or val/*.JPEG with annotations",
    )
    parser.add_argument("--out", default="data/imagenet20", metavar="DIR", help="folder to write")
    parser.add_argument("--classes", type=int, default=20, metavar="N", help="classes to draw")
    for split, default in (("train", 1300), ("val", 50)):
        parser.add_argument(
            f"--{split}",
            type=number_or_all,
            default=default,
            metavar="N",
            help=f"{split} images of each class, or 'all'; classes that have fewer are not drawn",
        )
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw")
    parser.add_argument(
        "--val-annotations",
        dest="annotations",
        default=argparse.SUPPRESS,
        metavar="FILE",
        help="lines 'name label' for a val/ without folders (default: IMAGENET/meta/val.txt)",
    )
    images = parser.add_mutually_exclusive_group()
    for choice, text in (
        ("link", "also make train/ and val/ with symbolic links to the images"),
        ("copy", "also make train/ and val/ with copies of the images"),
    ):
        images.add_argument(
            f"--{choice}",
            dest="images",
            action="store_const",
            const=choice,
            default=argparse.SUPPRESS,
            help=text,
        )
    parser.add_argument(
        "--force", action="store_true", help="replace a subset that was drawn in another way"
    )
    args = vars(parser.parse_args(argv))
    counts = make_imagenet_subset(**args)
    if counts is None:
        print(f"{args['out']} already holds this subset")
        return
    print(
        f"wrote lists of {counts['train']} training and {counts['val']} validation images of "
        f"{args['classes']} classes to {args['out']}"
    )
    if "images" not in args:
        root = args["imagenet"]
        print(f"their paths are relative to {root}/train and {root}/val: give these as data_prefix")
