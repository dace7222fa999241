"""Topology search: alpha weighs the operations on the edges of cells (DARTS)."""

from .network import DARTSSearchNetwork
from .operations import OPERATIONS, build_operation
from .space import CellSpace

__all__ = ["OPERATIONS", "CellSpace", "DARTSSearchNetwork", "build_operation"]
