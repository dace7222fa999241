"""From alpha to a genotype: hand-made alphas, and every choice tried out."""

import itertools
import math
import random

import pytest
import torch

from rarts_mm.cells.derivation import derive
from rarts_mm.cells.operations import OPERATIONS
from rarts_mm.cells.relaxations import Sigmoid, Softmax

NAMES = list(OPERATIONS)
COLUMN = {name: i for i, name in enumerate(NAMES)}


def alphas(normal: torch.Tensor | None = None, nodes: int = 4) -> dict[str, torch.Tensor]:
    edges = nodes * (nodes + 3) // 2
    zero = torch.zeros(edges, len(NAMES))
    return dict(normal=zero if normal is None else normal, reduce=zero.clone())


def brute_force(alpha: torch.Tensor, relaxation: str) -> list[list[tuple[str, int]]]:
    """Per node, the two (operation, input) of different inputs with the largest sum of weights."""
    rows, first, found = alpha.double().tolist(), 0, []
    while first < len(rows):
        inputs = 2 + len(found)
        weights = {}
        for source in range(inputs):
            row = rows[first + source]
            total = math.fsum(math.exp(a) for a in row)
            for name, a in zip(NAMES, row, strict=True):
                weight = math.exp(a) / total if relaxation == "softmax" else 1 / (1 + math.exp(-a))
                weights[name, source] = weight
        candidates = [pair for pair in weights if pair[0] != "none"]
        best = max(
            (p for p in itertools.combinations(candidates, 2) if p[0][1] != p[1][1]),
            key=lambda p: weights[p[0]] + weights[p[1]],
        )
        found.append(sorted(best, key=lambda pair: -weights[pair]))
        first += inputs
    return found


@pytest.mark.parametrize("relaxation", ["softmax", "sigmoid"])
def test_against_every_choice_of_two(relaxation):
    rule = {"softmax": Softmax, "sigmoid": Sigmoid}[relaxation]()
    generator = torch.Generator().manual_seed(0)
    for nodes in (1, 2, 4, 4, 4, 5):
        edges = nodes * (nodes + 3) // 2
        scale = 10 ** random.Random(nodes).uniform(-3, 1)
        each = {
            cell: scale * torch.randn(edges, 8, generator=generator)
            for cell in ("normal", "reduce")
        }
        genotype = derive(each, rule)
        for cell, alpha in each.items():
            found = [list(node) for node in genotype.nodes(cell)]
            assert found == brute_force(alpha, relaxation), (nodes, cell)
            assert getattr(genotype, f"{cell}_concat") == tuple(range(2, 2 + nodes))


def test_softmax_is_the_default_and_the_relaxation_matters():
    alpha = torch.zeros(14, 8)
    # Node 0 has no choice of edges; for node 1, edge 2 has the largest alpha, and a large none.
    alpha[2, COLUMN["sep_conv_3x3"]] = 2.0
    alpha[2, COLUMN["none"]] = 6.0
    alpha[3, COLUMN["skip_connect"]] = 1.0
    alpha[4, COLUMN["dil_conv_5x5"]] = 0.5
    softmax = derive(alphas(alpha)).nodes("normal")[1]
    assert softmax == (("skip_connect", 1), ("dil_conv_5x5", 2))
    assert derive(alphas(alpha), Softmax()).nodes("normal")[1] == softmax
    sigmoid = derive(alphas(alpha), Sigmoid()).nodes("normal")[1]
    assert sigmoid == (("sep_conv_3x3", 0), ("skip_connect", 1))


def test_none_is_never_chosen_however_large():
    alpha = torch.zeros(14, 8)
    alpha[:, COLUMN["none"]] = 60.0
    alpha[:, COLUMN["dil_conv_3x3"]] = 0.5
    alpha[4, COLUMN["dil_conv_3x3"]] = 0.75
    nodes = derive(alphas(alpha)).nodes("normal")
    assert {operation for node in nodes for operation, _ in node} == {"dil_conv_3x3"}
    # The weights are some 1e-26, and their order still counts: edge 4 is input 2 of node 1.
    assert nodes[1] == (("dil_conv_3x3", 2), ("dil_conv_3x3", 0))


def test_equals_go_to_the_lower_index():
    # All alphas alike: the first operation that is not none, on the first two edges.
    for node in derive(alphas()).nodes("normal"):
        assert node == (("max_pool_3x3", 0), ("max_pool_3x3", 1))
    alpha = torch.zeros(14, 8)
    alpha[:, COLUMN["skip_connect"]] = alpha[:, COLUMN["sep_conv_5x5"]] = 1.0
    assert derive(alphas(alpha)).normal[:2] == (("skip_connect", 0), ("skip_connect", 1))


def test_edges_with_the_same_numbers_in_another_order_are_equals():
    """Their sums of exponentials may differ in the last bit, which is no reason to prefer one."""
    generator = random.Random(0)
    for seed in range(200):
        row = torch.randn(8, generator=torch.Generator().manual_seed(seed))
        # None's weight stays, so that the largest of the others is the same on all edges.
        orders = [[0, *generator.sample(range(1, 8), 7)] for _ in range(14)]
        alpha = torch.stack([row[order] for order in orders])
        for node in derive(alphas(alpha)).nodes("normal"):
            assert [source for _, source in node] == [0, 1], seed


def test_alphas_are_not_changed_and_may_need_gradients():
    each = {cell: torch.randn(14, 8, requires_grad=True) for cell in ("normal", "reduce")}
    before = {cell: alpha.detach().clone() for cell, alpha in each.items()}
    first = derive(each)
    assert derive({cell: alpha.detach().double() for cell, alpha in each.items()}) == first
    assert all(torch.equal(each[cell], before[cell]) for cell in each)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("reduce"), r"no genotype without alphas\['reduce'\]; got \['normal'\]"),
        (
            lambda a: a.update(reduce=torch.zeros(14, 7)),
            r"alphas\['reduce'\] has the shape \(14, 7\)",
        ),
        (
            lambda a: a.update(normal=torch.zeros(13, 8)),
            r"alphas\['normal'\] has 13 edges, which is no",
        ),
        (lambda a: a.update(normal=torch.zeros(0, 8)), "has 0 edges"),
        (lambda a: a.update(normal=torch.zeros(14 * 8)), r"the shape \(112,\)"),
        (
            lambda a: a["reduce"][3].__setitem__(4, math.nan),
            r"alphas\['reduce'\], edge 3.*nan.*nothing can be derived",
        ),
        (
            lambda a: a["normal"][13].__setitem__(0, math.inf),
            r"alphas\['normal'\], edge 13: .*none.*nan",
        ),
    ],
)
def test_what_cannot_be_derived_from(change, message):
    each = alphas()
    change(each)
    with pytest.raises(ValueError, match=message):
        derive(each)


def test_a_score_of_nan_is_refused_where_the_sigmoid_would_hide_others():
    alpha = torch.zeros(14, 8)
    alpha[7, COLUMN["avg_pool_3x3"]] = math.nan
    with pytest.raises(ValueError, match="edge 7: the weight of avg_pool_3x3 is nan"):
        derive(alphas(alpha), Sigmoid())
