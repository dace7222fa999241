"""From alpha to a genotype (Liu et al., ICLR 2019, section 2.4)."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .genotype import INPUTS, Genotype, Pair
from .operations import OPERATIONS
from .relaxations import Relaxation, Softmax

NAMES = tuple(OPERATIONS)


def derive(alphas: Mapping[str, Tensor], relaxation: Relaxation | None = None) -> Genotype:
    """Every node keeps its two strongest edges, every edge its strongest operation.

    The strength of an operation is its score under the relaxation; ``none`` is no candidate, though
    its alpha takes part in a softmax. The strength of an edge is that of its strongest operation. Of
    equals the one with the lower index wins. A node's two edges come in the order of their strength.

    Args:
        alphas: ``'normal'`` and ``'reduce'`` -> (edges, 8) scores; 14 edges are 4 nodes.
        relaxation: how alpha becomes scores; default: softmax.

    Raises:
        ValueError: an alpha is missing, of another shape, or no number; says where.
    """
    relaxation = relaxation or Softmax()
    cells = {}
    for cell in ("normal", "reduce"):
        if cell not in alphas:
            raise ValueError(f"no genotype without alphas[{cell!r}]; got {sorted(alphas)}")
        scores = _scores(cell, alphas[cell], relaxation)
        nodes = _number_of_nodes(cell, len(scores))
        cells[cell] = _strongest(scores, nodes)
        cells[f"{cell}_concat"] = range(INPUTS, INPUTS + nodes)
    return Genotype(**cells)


def _scores(cell: str, alpha: Tensor, relaxation: Relaxation) -> list[list[float]]:
    if alpha.ndim != 2 or alpha.shape[1] != len(NAMES):
        raise ValueError(
            f"alphas[{cell!r}] has the shape {tuple(alpha.shape)}; it needs a row for each edge and "
            f"{len(NAMES)} columns: {', '.join(NAMES)}"
        )
    # In float64, so that weights near 1 still differ.
    alpha = alpha.detach().to("cpu", torch.float64)
    scores = relaxation.scores(alpha)
    bad = (alpha.isnan() | ~scores.isfinite()).nonzero().tolist()
    if bad:
        edge, column = bad[0]
        raise ValueError(
            f"alphas[{cell!r}], edge {edge}: the weight of {NAMES[column]} is {scores[edge, column]} "
            f"(alpha {alpha[edge, column]}); nothing can be derived from it"
        )
    return scores.tolist()


def _number_of_nodes(cell: str, edges: int) -> int:
    # Node i has i + 2 edges: n (n + 3) / 2 for n nodes.
    nodes = (math.isqrt(9 + 8 * edges) - 3) // 2
    if edges == 0 or nodes * (nodes + 3) // 2 != edges:
        raise ValueError(
            f"alphas[{cell!r}] has {edges} edges, which is no cell: 2, 5, 9, 14, ... edges are 1, 2, "
            "3, 4, ... nodes"
        )
    return nodes


def _strongest(scores: Sequence[Sequence[float]], nodes: int) -> tuple[Pair, ...]:
    candidates = [i for i, name in enumerate(NAMES) if name != "none"]
    pairs: list[Pair] = []
    first = 0
    for node in range(nodes):
        # max and sorted keep the order of equals.
        best = [
            max(candidates, key=row.__getitem__) for row in scores[first : first + INPUTS + node]
        ]
        strength = [_rounded(scores[first + source][best[source]]) for source in range(len(best))]
        strongest = sorted(range(len(best)), key=lambda source: -strength[source])
        pairs += [(NAMES[best[source]], source) for source in strongest[:INPUTS]]
        first += len(best)
    return tuple(pairs)


def _rounded(score: float) -> float:
    """To 13 digits: the same numbers in another order give softmax another last bit, yet are a tie."""
    return float(f"{score:.12e}")
