"""The optimisation: Lagrangian, penalties, alternations. Knows tensors, losses and optimisers;
nothing of vision, configs or runners."""

from .alternations import RARTS, Alternation, Joint
from .lagrangian import Lagrangian
from .penalty import L1Penalty, Penalty
from .problem import ALPHA, AUXILIARY, PRIMARY, Problem
from .solvable import Point, SolvableModel, limit, solve
from .statistics import frozen_statistics
from .stepper import Player, Stepper

__all__ = [
    "ALPHA",
    "AUXILIARY",
    "PRIMARY",
    "RARTS",
    "Alternation",
    "Joint",
    "L1Penalty",
    "Lagrangian",
    "Penalty",
    "Player",
    "Point",
    "Problem",
    "SolvableModel",
    "Stepper",
    "frozen_statistics",
    "limit",
    "solve",
]
