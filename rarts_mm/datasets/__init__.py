"""Halves of a data set, and small data sets that are made on the spot."""

from .digits import make_digits
from .halves import check_halves, check_same_split, split_halves
from .shapes import make_shapes, shapes_metainfo

__all__ = [
    "check_halves",
    "check_same_split",
    "make_digits",
    "make_shapes",
    "shapes_metainfo",
    "split_halves",
]
