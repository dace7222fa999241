"""The optimisation: Lagrangian, penalties, alternations. Knows tensors, losses and optimisers;
nothing of vision, configs or runners."""

from .alternations import (
    DARTS1,
    DARTS2,
    RARTS,
    Alternation,
    Joint,
    MiLeNAS,
    RARTSJacobi,
    WeightsOnly,
)
from .lagrangian import Lagrangian
from .penalties import (
    HardThreshold,
    L1Penalty,
    LatencyPenalty,
    Penalty,
    ProximalL1,
    ProximalPenalty,
    SmoothPenalty,
)
from .player import Player, fill_missing_gradients_
from .problem import ALPHA, AUXILIARY, PRIMARY, SYMBOLS, Problem
from .solvable import Point, SolvableModel, limit, solve
from .state import Stateful
from .statistics import frozen_statistics
from .stepper import Stepper

__all__ = [
    "ALPHA",
    "AUXILIARY",
    "DARTS1",
    "DARTS2",
    "PRIMARY",
    "RARTS",
    "SYMBOLS",
    "Alternation",
    "HardThreshold",
    "Joint",
    "L1Penalty",
    "Lagrangian",
    "LatencyPenalty",
    "MiLeNAS",
    "Penalty",
    "Player",
    "Point",
    "Problem",
    "ProximalL1",
    "ProximalPenalty",
    "RARTSJacobi",
    "SmoothPenalty",
    "SolvableModel",
    "Stateful",
    "Stepper",
    "WeightsOnly",
    "fill_missing_gradients_",
    "frozen_statistics",
    "limit",
    "solve",
]
