"""Halves of a data set, subsets of ImageNet, and small data sets that are made on the spot."""

from .digits import make_digits
from .halves import check_halves, check_same_split, split_halves
from .imagenet_subset import make_imagenet_subset
from .shapes import make_shapes, shapes_metainfo

__all__ = [
    "check_halves",
    "check_same_split",
    "make_digits",
    "make_imagenet_subset",
    "make_shapes",
    "shapes_metainfo",
    "split_halves",
]
