"""Topology search: alpha weighs the operations on the edges of cells (DARTS)."""

from .nats import NATSArchitecture, NATSNetwork, NATSSearchNetwork, NATSSpace
from .network import DARTSSearchNetwork
from .operations import OPERATIONS, build_operation
from .relaxations import Relaxation, Sigmoid, Softmax
from .retraining import AuxiliaryClsHead, DARTSNetwork
from .space import CellSpace

__all__ = [
    "OPERATIONS",
    "AuxiliaryClsHead",
    "CellSpace",
    "DARTSNetwork",
    "DARTSSearchNetwork",
    "NATSArchitecture",
    "NATSNetwork",
    "NATSSearchNetwork",
    "NATSSpace",
    "Relaxation",
    "Sigmoid",
    "Softmax",
    "build_operation",
]
