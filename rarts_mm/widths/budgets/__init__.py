"""How much may stay: from the importance of dimensions and a budget to the dimensions to keep."""

from .agreement import Agreement, agreement
from .cost import WidthCost
from .filling import keep_nonzero, keep_within
from .ordering import SCOPES
from .probing import touched_parameters

__all__ = [
    "SCOPES",
    "Agreement",
    "WidthCost",
    "agreement",
    "keep_nonzero",
    "keep_within",
    "touched_parameters",
]
