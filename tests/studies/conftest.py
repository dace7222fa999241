"""What tests of the studies share: the digits."""

from pathlib import Path

import pytest

from rarts_mm.datasets import make_digits

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """The handwritten digits' folder."""
    folder = tmp_path_factory.mktemp("data") / "digits"
    make_digits(folder)
    return folder


SMOKE = "test_a_run_searches_derives_and_retrains"


def pytest_collection_modifyitems(items):
    """The studies are no part of what users install: one small run of one of them is in `make test`."""
    for item in items:
        if item.path.parent == HERE and item.name != SMOKE:
            item.add_marker(pytest.mark.slow)
