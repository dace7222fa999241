"""Keeping the most important dimensions within a budget."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rarts_mm.widths import rank_scores
from rarts_mm.widths.budgets import WidthCost, agreement, keep_nonzero, keep_within
from rarts_mm.widths.budgets.ordering import order_dimensions

UNITS = ("a", "b.0", "b.1", "c")


@st.composite
def problems(draw):
    """Scores with ties, and a cost in which units share weights."""
    sizes = {
        name: draw(st.integers(1, 12)) for name in draw(st.sets(st.sampled_from(UNITS), min_size=1))
    }
    scores = {
        name: torch.tensor([draw(st.integers(-3, 3)) for _ in range(size)], dtype=torch.float64)
        for name, size in sizes.items()
    }
    terms = {frozenset(): draw(st.integers(0, 50))}
    for name, size in sizes.items():
        terms[frozenset([name])] = size * draw(st.integers(1, 5))
    names = sorted(sizes)
    for one, other in itertools.pairwise(names):
        terms[frozenset([one, other])] = sizes[one] * sizes[other] * draw(st.integers(0, 3))
    return scores, WidthCost(sizes, terms, "parameters")


def widths_of(kept):
    return {name: len(index) for name, index in kept.items()}


@settings(deadline=None, max_examples=200)
@given(problems(), st.floats(0.05, 0.99), st.integers(1, 3), st.integers(1, 4))
def test_within_the_budget_and_filled(problem, share, min_keep, round_to):
    scores, cost = problem
    budget = share * cost.whole
    if round_to > max(cost.sizes.values()):
        with pytest.raises(ValueError, match="is larger than"):
            keep_within(scores, cost, budget, min_keep=min_keep, round_to=round_to)
        return
    block = max(round_to, math.ceil(min_keep / round_to) * round_to)
    floors = {
        name: size if size < round_to else min(size, block) for name, size in cost.sizes.items()
    }
    if cost(floors) > budget:
        with pytest.raises(ValueError, match="remain at least"):
            keep_within(scores, cost, budget, min_keep=min_keep, round_to=round_to)
        return
    kept = keep_within(scores, cost, budget, min_keep=min_keep, round_to=round_to)
    assert list(kept) == list(scores)
    widths = widths_of(kept)
    assert cost(widths) <= budget + 1e-6
    for name, size in cost.sizes.items():
        assert widths[name] >= floors[name]
        assert widths[name] % round_to == 0 or widths[name] == size
        # Within a unit the largest stay.
        magnitudes = scores[name].abs()
        gone = [i for i in range(size) if i not in kept[name].tolist()]
        assert not gone or magnitudes[gone].max() <= magnitudes[kept[name]].min()
        # Filled up: no further block of any unit fits.
        if widths[name] < size:
            more = dict(widths, **{name: min(size, widths[name] + round_to)})
            assert cost(more) > budget


@settings(deadline=None)
@given(problems(), st.floats(0.01, 0.99))
def test_ratios_are_budgets_of_scores(problem, ratio):
    scores, _ = problem
    total = sum(map(len, scores.values()))
    target = round(ratio * total)
    if target > total - len(scores):
        return
    kept = rank_scores(scores, ratio)
    place = order_dimensions(scores)
    # The first in the order go, except the last of each unit.
    last = {max(place.place[place.unit == i]) for i in range(len(place.names))}
    gone = [p for p in range(total) if p not in last][:target]
    for i, name in enumerate(place.names):
        inside = place.unit == i
        expected = [
            index
            for index, p in zip(place.index[inside], place.place[inside], strict=True)
            if p not in gone
        ]
        assert kept[name].tolist() == sorted(expected)


def test_scope_layer_takes_the_same_share_of_each():
    scores = {"a": torch.arange(1.0, 11.0), "b": 100 + torch.arange(20.0)}
    kept = rank_scores(scores, 0.4, scope="layer")
    assert widths_of(kept) == {"a": 6, "b": 12}
    assert kept["a"].tolist() == [4, 5, 6, 7, 8, 9]
    assert widths_of(rank_scores(scores, 0.3)) == {"a": 1, "b": 20}


def test_scope_type_ranks_kinds_apart():
    scores = {
        "attention 1": torch.tensor([1.0, 2, 3, 4]),
        "attention 2": torch.tensor([5.0, 6, 7, 8]),
        "mlp": 100 + torch.arange(8.0),
    }
    kinds = {"attention 1": "attention", "attention 2": "attention", "mlp": "mlp"}
    kept = rank_scores(scores, 0.25, scope="type", kinds=kinds)
    assert widths_of(kept) == {"attention 1": 2, "attention 2": 4, "mlp": 6}
    # A budget of parameters in the same order.
    cost = WidthCost(
        {n: len(s) for n, s in scores.items()},
        {frozenset(["mlp"]): 8, frozenset(["attention 1"]): 4, frozenset(["attention 2"]): 4},
        "parameters",
    )
    kept = keep_within(scores, cost, 12, scope="type", kinds=kinds)
    assert widths_of(kept) == {"attention 1": 2, "attention 2": 4, "mlp": 6}


def test_a_dear_dimension_that_does_not_fit_does_not_end_the_filling():
    scores = {"dear": torch.tensor([9.0, 8, 7]), "cheap": torch.tensor([6.0, 5, 4])}
    cost = WidthCost(
        {"dear": 3, "cheap": 3}, {frozenset(["dear"]): 30, frozenset(["cheap"]): 3}, "FLOPs"
    )
    kept = keep_within(scores, cost, 22)
    assert widths_of(kept) == {"dear": 2, "cheap": 2}
    assert cost.per_dimension() == {"dear": 10, "cheap": 1}


def test_units_smaller_than_the_rounding_stay_whole():
    scores = {"a": torch.rand(5), "b": torch.rand(16) + 1}
    kept = rank_scores(scores, 0.4, round_to=8)
    assert widths_of(kept) == {"a": 5, "b": 8}
    with pytest.raises(ValueError, match=r"largest ratio is 0.3810"):
        rank_scores(scores, 0.45, round_to=8)


def test_rounding_larger_than_every_unit():
    with pytest.raises(ValueError, match=r"round_to=8 is larger than every unit.*the largest is 6"):
        rank_scores({"a": torch.rand(5), "b": torch.rand(2)}, 0.4, round_to=8, multiples={"b": 3})


def test_a_budget_below_the_floors_says_what_remains_at_least():
    scores = {"a": torch.rand(8), "b": torch.rand(8)}
    cost = WidthCost({"a": 8, "b": 8}, {frozenset("a"): 80, frozenset(): 100}, "parameters")
    with pytest.raises(ValueError, match=r"120 parameters remain at least: 2 dimensions .* 119"):
        keep_within(scores, cost, 119, min_keep=2)


def test_exact_zeros_go():
    scores = {"a": torch.tensor([0.0, -1e-30, 0.0, 2.0, 0.0]), "b": torch.zeros(4)}
    assert {n: k.tolist() for n, k in keep_nonzero(scores).items()} == {"a": [1, 3], "b": [0]}
    assert widths_of(keep_nonzero(scores, round_to=4)) == {"a": 4, "b": 4}
    with pytest.raises(ValueError, match="None of the 3 scores is exactly zero"):
        keep_nonzero({"a": torch.ones(3)})
    with pytest.raises(ValueError, match="All 3 scores are exactly zero"):
        keep_nonzero({"a": torch.zeros(3)})


def test_agreement_of_a_ranking_with_itself_and_its_reverse():
    scores = {"a": torch.tensor([1.0, 2, 3, 4]), "b": torch.tensor([5.0, 6, 7, 8])}
    reverse = {name: 9 - value for name, value in scores.items()}
    one, other = rank_scores(scores, 0.5), rank_scores(reverse, 0.5)
    same = agreement(scores, scores, one, one)
    assert (same.rank_correlation, same.overlap) == (pytest.approx(1), 1)
    opposite = agreement(scores, reverse, one, other)
    # Floors: each keeps one dimension of the other's unit.
    assert opposite.rank_correlation == pytest.approx(-1)
    assert opposite.overlap == 0.0 or opposite.overlap < 0.4
