"""Networks of derived cells, to be trained from scratch (DARTS, sections 3.2 and 3.3)."""

from rarts_mm.stack import check_stack

# With a broken stack what follows would fail with less helpful words.
check_stack()

from .auxiliary import AuxiliaryClsHead, AuxiliaryTower
from .cell import Cell, Edge
from .network import DARTSNetwork

__all__ = ["AuxiliaryClsHead", "AuxiliaryTower", "Cell", "DARTSNetwork", "Edge"]
