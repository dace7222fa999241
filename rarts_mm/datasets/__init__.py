"""Halves of a data set, and small generated data sets."""

from .halves import check_halves, check_same_split, split_halves
from .shapes import make_shapes, shapes_metainfo

__all__ = [
    "check_halves",
    "check_same_split",
    "make_shapes",
    "shapes_metainfo",
    "split_halves",
]
