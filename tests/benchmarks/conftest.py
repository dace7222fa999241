"""What tests of the benchmarks share: the digits."""

import pytest

from rarts_mm.datasets import make_digits


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """The handwritten digits' folder."""
    folder = tmp_path_factory.mktemp("data") / "digits"
    make_digits(folder)
    return folder
