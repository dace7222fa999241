"""Selected channels as a config writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rarts_mm.widths.index_text import read_indices, write_indices


@given(st.sets(st.integers(0, 60), min_size=1).map(sorted))
def test_round_trip(indices):
    assert read_indices(write_indices(indices)) == indices


def test_form():
    assert write_indices([0, 1, 2, 3, 4, 7, 9, 10]) == "0-4,7,9-10"
    for text in ("", "1-", "a", "1,,2", "1-2-3", "-1"):
        assert read_indices(text) == []


@pytest.mark.parametrize("width", ["3,2", "0-8", "5-3", "1,1", "x", 0, 9, True, 2.0])
def test_widths_that_are_none(width):
    from rarts_mm.widths.pruned import _indices

    with pytest.raises(ValueError, match="The width of unit must be"):
        _indices("unit", width, 8)
