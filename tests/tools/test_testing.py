"""``tools/test.py`` beside what it tests: the training's config stays, pictures are drawn, classes must agree."""

import shutil

import pytest

from tests.conftest import CONFIGS, run_tool
from tests.digits import write_digits

BASE = CONFIGS / "sidt_swin_micro_digits.py"
MORE = "default_hooks = dict(checkpoint=dict(interval=1))\n"


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("testing")
    config = write_digits(folder, BASE, 128, 2, MORE)
    status, out, err = run_tool("train", config, "--work-dir", folder / "run")
    assert status == 0, err
    run = folder / "run"
    assert f"next: python tools/prune.py {run}/search.py {run}/epoch_2.pth --ratio 0.4" in out
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--tta"], ["--out", "predictions.pkl"]])
def test_a_test_in_the_work_dir_leaves_the_searchs_config_as_it_is(
    searched, tmp_path, monkeypatch, more
):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "work_dirs" / "search"
    shutil.copytree(searched / "run", run)
    before = (run / "search.py").read_bytes()
    status, _, err = run_tool("test", searched / "search.py", run / "epoch_2.pth", *more)
    assert status == 0, err
    assert (run / "search.py").read_bytes() == before
    # The test's own is beside its log.
    assert len(list(run.glob("*/search.py"))) == 1
    status, out, err = run_tool("prune", "--ratio", "0.4")
    assert status == 0, err
    assert "newest search: work_dirs/search/search.py, work_dirs/search/epoch_2.pth" in out
    # The same by its folder.
    status, _, err = run_tool("prune", run / "search.py", run, "--ratio", "0.4", "--out", "again")
    assert status == 0, err


def test_pictures_of_a_classifiers_predictions_are_drawn(searched, tmp_path):
    status, _, err = run_tool(
        *("test", searched / "search.py", searched / "run", "--work-dir", tmp_path / "run"),
        *("--show-dir", tmp_path / "shown"),
    )
    assert status == 0, err
    assert list((tmp_path / "shown").glob("*.png"))


def test_a_search_that_has_not_ended_is_pruned_and_said_to_be_one(searched, tmp_path):
    arguments = (searched / "run" / "search.py", searched / "run" / "epoch_1.pth")
    status, out, err = run_tool("prune", *arguments, "--ratio", "0.4", "--out", tmp_path / "pruned")
    assert status == 0, err
    assert "is not the end of its search: 1 of 2 epochs are done" in out + err


@pytest.mark.parametrize("half", ["train", "val"])
def test_a_missing_class_folder_is_refused(searched, tmp_path, half):
    data = tmp_path / "digits"
    shutil.copytree(searched / "digits", data)
    config = write_digits(tmp_path, BASE, 128, 2, MORE)
    (data / half / "3").rename(tmp_path / "3")
    status, _, err = run_tool("train", config, "--work-dir", tmp_path / "run")
    assert status == 2
    assert f"{data}/{half} has no '3'" in err
    assert "A class's number is its folder's place" in err
    assert not (tmp_path / "run").exists()
    (data / half / "3").mkdir()
    (data / half / "of no class").mkdir()
    status, _, err = run_tool("train", config, "--work-dir", tmp_path / "run")
    assert status == 2
    assert "has no 'of no class'" in err
