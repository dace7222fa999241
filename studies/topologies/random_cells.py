"""Cells drawn at random from what a search with the same nodes could derive."""

import numpy as np

from rarts_mm.cells import OPERATIONS
from rarts_mm.cells.genotype import INPUTS, Genotype

CHOICES = tuple(name for name in OPERATIONS if name != "none")


def random_genotype(nodes: int, generator: np.random.Generator) -> Genotype:
    """Every node reads two different inputs, through any operation but ``none``, all equally likely.

    Args:
        nodes: of each cell.
        generator: whose next numbers are used.
    """
    cells = {}
    for cell in ("normal", "reduce"):
        pairs = []
        for node in range(nodes):
            sources = generator.choice(INPUTS + node, size=2, replace=False)
            pairs += [(CHOICES[generator.integers(len(CHOICES))], int(s)) for s in sources]
        cells[cell] = tuple(pairs)
        cells[f"{cell}_concat"] = range(INPUTS, INPUTS + nodes)
    return Genotype(**cells)
