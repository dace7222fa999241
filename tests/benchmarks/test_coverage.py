"""The benchmark of what can be cut: one small network, its row, the page."""

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT


def run(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "cut_coverage.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


@pytest.mark.slow
def test_a_family_and_its_page(tmp_path):
    arguments = ("--suite", "timm", "--only", "lcnet", "--work-dir", tmp_path)
    done = run(*arguments, "--page", tmp_path / "page.md")
    assert done.returncode == 0, done.stderr
    row = json.loads((tmp_path / "timm" / "lcnet_050.json").read_text())
    assert row["held"] > 0.99
    assert row["groups"] > 10
    assert all(error < 1e-12 for error in row["errors"].values())
    assert 0 < row["left"]["0.6"] < row["left"]["0.3"] < 1
    page = (tmp_path / "page.md").read_text()
    assert "1 of 1 have at least 90 % of their parameters in groups" in page
    assert "| lcnet_050 | 1.9 M |" in page
    # What is measured is not measured again.
    again = run(*arguments)
    assert again.returncode == 0
    assert again.stdout == ""


@pytest.mark.slow
def test_a_network_that_takes_too_long_is_a_row_too(tmp_path):
    done = run(
        *("--suite", "timm", "--only", "lcnet", "--work-dir", tmp_path, "--seconds", 1),
        *("--page", tmp_path / "page.md"),
    )
    assert done.returncode == 0, done.stderr
    assert (
        "| lcnet_050 | | | | | | | | | not measured: more than 1 s |"
        in (tmp_path / "page.md").read_text()
    )


@pytest.mark.slow
def test_a_name_that_no_network_has():
    done = run("--only", "nothing")
    assert done.returncode == 2
    assert "no network has this in its name" in done.stderr
