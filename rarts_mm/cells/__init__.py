"""Topology search: alpha weighs the operations on the edges of cells (DARTS)."""

from .genotype import GENOTYPES, Genotype
from .nats import NATSArchitecture, NATSNetwork, NATSSearchNetwork, NATSSpace
from .network import DARTSSearchNetwork
from .operations import OPERATIONS, build_operation
from .relaxations import Relaxation, Sigmoid, Softmax
from .retraining import AuxiliaryClsHead, DARTSNetwork
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
