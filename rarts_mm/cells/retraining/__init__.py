"""Networks of derived cells, to be trained from scratch (DARTS, sections 3.2 and 3.3)."""

from .auxiliary import AuxiliaryClsHead, AuxiliaryTower
from .cell import Cell, Edge
from .network import DARTSNetwork

__all__ = ["AuxiliaryClsHead", "AuxiliaryTower", "Cell", "DARTSNetwork", "Edge"]
