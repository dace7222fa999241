"""The pool of runs, and the page whose sections the commands write."""

import importlib
import os
from functools import partial
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "studies"


@pytest.fixture
def module(monkeypatch):
    """Import one of the benchmark's files."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


def _dies(*_):
    os._exit(9)


def _answers(task, folder, what):
    return dict(task=task, what=what, folder=folder.name)


def test_results_come_in_the_order_of_the_tasks(module, tmp_path):
    tasks = {f"f{seed}": seed for seed in range(5)}
    run = partial(_answers, what="c")
    found = module("evidence.pool").run_all(run, tasks, tmp_path, 2, "test")
    assert list(found.items()) == [
        (f"f{seed}", dict(task=seed, what="c", folder=f"f{seed}")) for seed in range(5)
    ]


def test_a_killed_worker_ends_the_comparison_with_a_message(module, tmp_path):
    with pytest.raises(RuntimeError, match=r"killed .* final/x; the same command goes on"):
        module("evidence.pool").run_all(_dies, {"final/x": 0}, tmp_path, 1, "test")


def test_a_folder_of_other_settings_is_refused(module, tmp_path):
    check = module("evidence.pool").check_identity
    check(tmp_path, dict(config="a", shares=(0.4, 0.7)))
    check(tmp_path, dict(config="a", shares=[0.4, 0.7]))
    with pytest.raises(ValueError, match=r"differs in shares\).*--work-dir"):
        check(tmp_path, dict(config="a", shares=[0.4]))


def test_what_is_done_is_not_done_again_and_what_broke_off_is(module, tmp_path):
    once, folder = module("evidence.pool").once, tmp_path / "run"
    folder.mkdir()
    (folder / "left over").write_text("of an interrupted run")

    def fails():
        print("so far")
        raise KeyError("x")

    with pytest.raises(KeyError):
        once(fails, folder)
    assert [path.name for path in folder.iterdir()] == ["log.txt"]
    assert (folder / "log.txt").read_text() == "so far\n"
    assert once(lambda: dict(number=1.5), folder) == dict(number=1.5)
    assert once(fails, folder) == dict(number=1.5)


def test_sections_leave_each_other_alone(module, tmp_path):
    write, page = module("evidence.sections").write_section, tmp_path / "docs" / "page.md"
    write(page, "first", "## First\n\nold\n")
    write(page, "second", "## Second\n\ntwo\n")
    page.write_text(page.read_text() + "\nBy hand.\n")
    before = page.read_text()
    assert before.startswith(module("evidence.sections").HEAD)
    write(page, "first", "## First\n\nnew, and longer\n")
    assert page.read_text() == before.replace("old", "new, and longer")
    write(page, "first", "## First\n\nold")
    assert page.read_text() == before
    page.write_text(before.replace("<!-- second: end -->", ""))
    with pytest.raises(ValueError, match="second: end --> must both be there"):
        write(page, "second", "## Second")
