"""Topology search: alpha weighs the operations on the edges of cells (DARTS).

The networks to retrain are built on mmcv and MMPretrain, and imported when they are asked for.
"""

from typing import Any

from .genotype import GENOTYPES, Genotype
from .nats import NATSArchitecture, NATSNetwork, NATSSearchNetwork, NATSSpace
from .network import DARTSSearchNetwork
from .operations import OPERATIONS, build_operation
from .relaxations import Relaxation, Sigmoid, Softmax
from .space import CellSpace

__all__ = [
    "GENOTYPES",
    "OPERATIONS",
    "AuxiliaryClsHead",
    "CellSpace",
    "DARTSNetwork",
    "DARTSSearchNetwork",
    "Genotype",
    "NATSArchitecture",
    "NATSNetwork",
    "NATSSearchNetwork",
    "NATSSpace",
    "Relaxation",
    "Sigmoid",
    "Softmax",
    "build_operation",
]


def __getattr__(name: str) -> Any:
    if name in ("AuxiliaryClsHead", "DARTSNetwork"):
        from . import retraining

        return getattr(retraining, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
