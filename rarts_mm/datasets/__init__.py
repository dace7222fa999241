"""Data: the halves of a search, and generated images so that everything runs without a download."""

from .halves import check_halves, split_halves
from .shapes import make_shapes

__all__ = ["check_halves", "make_shapes", "split_halves"]
