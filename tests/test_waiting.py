"""Threads that wait for each other spin shortly, unless the user says otherwise."""

import os
import subprocess
import sys

import pytest

from rarts_mm.waiting import SPINS, spin_shortly


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, str(SPINS)),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, None),
    ],
)
def test_what_the_user_has_set_stays(monkeypatch, given, found):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    spin_shortly()
    assert os.environ.get("GOMP_SPINCOUNT") == found
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)


@pytest.mark.slow
def test_it_is_said_before_torch_is_imported():
    show = (
        "import builtins, os\n"
        "original, seen = builtins.__import__, {}\n"
        "def watched(name, *more):\n"
        "    seen.setdefault(name, os.environ.get('GOMP_SPINCOUNT'))\n"
        "    return original(name, *more)\n"
        "builtins.__import__ = watched\n"
        "import rarts_mm\n"
        "print(seen['torch'])\n"
    )
    env = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run(
        [sys.executable, "-c", show], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(SPINS)
