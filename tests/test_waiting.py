"""Threads that wait for each other spin shortly, unless the user says otherwise."""

import os
import subprocess
import sys

import pytest

from rarts_mm.waiting import SPINS

SHOW = "import os, rarts_mm, torch; print(os.environ.get('GOMP_SPINCOUNT'))"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, str(SPINS)),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "None"),
    ],
)
def test_what_the_user_has_set_stays(given, found):
    env = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run(
        [sys.executable, "-c", SHOW], env=env | given, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == found
