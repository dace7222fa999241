import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rarts_mm.widths import rank_scores

# Few distinct values: ties are the rule.
scores = st.dictionaries(
    st.sampled_from(["a", "b.0", "b.1", "c.ffn", "d"]),
    st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12),
    min_size=1,
)
ratios = st.floats(0.01, 0.99)
floors = st.integers(1, 4)


def _tensors(values):
    return {name: torch.tensor(numbers, dtype=torch.float64) for name, numbers in values.items()}


def _possible(values, ratio, min_keep):
    removed = round(ratio * sum(map(len, values.values())))
    return removed <= sum(max(len(v) - min_keep, 0) for v in values.values())


@settings(deadline=None)
@given(scores, ratios, floors)
def test_count_floor_and_order(values, ratio, min_keep):
    alphas = _tensors(values)
    if not _possible(values, ratio, min_keep):
        with pytest.raises(ValueError, match="the largest ratio is"):
            rank_scores(alphas, ratio, min_keep)
        return
    kept = rank_scores(alphas, ratio, min_keep)
    assert list(kept) == list(alphas)
    total = sum(map(len, values.values()))
    assert total - sum(map(len, kept.values())) == round(ratio * total)
    removed, above_floor = [], []
    for name, alpha in alphas.items():
        indices = kept[name].tolist()
        assert kept[name].dtype == torch.int64
        assert indices == sorted(set(indices))
        assert set(indices) <= set(range(len(alpha)))
        assert len(indices) >= min(min_keep, len(alpha))
        gone = [abs(alpha[i].item()) for i in range(len(alpha)) if i not in indices]
        stay = [abs(alpha[i].item()) for i in indices]
        # Within a unit the largest stay, whatever the floors.
        assert not gone or max(gone) <= min(stay)
        removed += gone
        if len(indices) > min_keep:
            above_floor += stay
    # Across units only a floor can save a score below a removed one.
    assert not removed or not above_floor or max(removed) <= min(above_floor)


@settings(deadline=None)
@given(scores, ratios, st.randoms(use_true_random=False))
def test_order_of_units_and_signs_do_not_matter(values, ratio, rng: random.Random):
    if not _possible(values, ratio, 1):
        return
    alphas = _tensors(values)
    kept = rank_scores(alphas, ratio)
    names = list(alphas)
    rng.shuffle(names)
    again = rank_scores({name: -alphas[name] for name in names}, ratio)
    for name in alphas:
        assert torch.equal(kept[name], again[name])


@settings(deadline=None)
@given(st.permutations(range(20)), ratios)
def test_permuted_scores_keep_permuted_dimensions(order, ratio):
    if round(ratio * 32) > 30:
        return
    values = torch.randn(32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    first, second = values[:20], values[20:]
    order = torch.tensor(order)
    plain = rank_scores({"x": first, "y": second}, ratio)
    moved = rank_scores({"x": first[order], "y": second}, ratio)
    assert order[moved["x"]].sort().values.equal(plain["x"])
    assert moved["y"].equal(plain["y"])


def test_lowest_magnitudes_of_the_whole_network_go():
    alphas = {"a": torch.tensor([0.5, -0.1, 3.0, 0.2]), "b": torch.tensor([-2.0, 0.05])}
    kept = rank_scores(alphas, 0.5)
    assert kept["a"].tolist() == [0, 2]
    assert kept["b"].tolist() == [0]


def test_equal_scores_prune_evenly():
    kept = rank_scores({"a": torch.ones(100), "b": torch.ones(10), "c": torch.ones(40)}, 0.4)
    assert {name: len(indices) for name, indices in kept.items()} == {"a": 60, "b": 6, "c": 24}
    assert kept["b"].tolist() == list(range(6))


def test_floor_passes_the_cut_on_to_other_units():
    alphas = {"weak": torch.full((4,), 0.1), "strong": torch.arange(1.0, 7.0)}
    kept = rank_scores(alphas, 0.4, min_keep=3)
    assert kept["weak"].tolist() == [0, 1, 2]
    assert kept["strong"].tolist() == [3, 4, 5]


@pytest.mark.parametrize("ratio", [0, 1, -0.1, 1.4, float("nan"), "0.4", None, True])
def test_bad_ratio(ratio):
    with pytest.raises(ValueError, match="ratio must be a number between 0 and 1"):
        rank_scores({"a": torch.ones(4)}, ratio)


@pytest.mark.parametrize("floor", [0, -1, 1.5, True])
def test_bad_floor(floor):
    with pytest.raises(ValueError, match="min_keep"):
        rank_scores({"a": torch.ones(4)}, 0.5, min_keep=floor)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_are_not_finite(bad):
    with pytest.raises(ValueError, match=r"1 of the 3 scores of b are NaN or infinite"):
        rank_scores({"a": torch.ones(4), "b": torch.tensor([1.0, bad, 2.0])}, 0.5)


def test_impossible_ratio_says_what_is_possible():
    with pytest.raises(ValueError, match=r"removes 9 of 10 .* only 8 can go: .* is 0\.8000"):
        rank_scores({"a": torch.ones(5), "b": torch.ones(5)}, 0.9)


def test_no_scores():
    with pytest.raises(ValueError, match="no scores"):
        rank_scores({}, 0.5)
    with pytest.raises(ValueError, match="must be a vector"):
        rank_scores({"a": torch.ones(2, 2)}, 0.5)
