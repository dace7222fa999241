"""Alternations: how w, u and alpha take turns within one step.

Each is one rule over the mechanism in ``stepper.py``. L_a and L_p are evaluated on the same two
batches throughout a step.
"""

from .base import Alternation
from .darts import DARTS1
from .joint import Joint
from .milenas import MiLeNAS
from .rarts import RARTS, RARTSJacobi
from .second_order import DARTS2
from .weights_only import WeightsOnly

__all__ = [
    "DARTS1",
    "DARTS2",
    "RARTS",
    "Alternation",
    "Joint",
    "MiLeNAS",
    "RARTSJacobi",
    "WeightsOnly",
]
