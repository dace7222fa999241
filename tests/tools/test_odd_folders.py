"""Folders whose names are no plain text, copied folders, folders with rubbish in them."""

import os
import shutil
from pathlib import Path

import pytest
from mmengine.config import Config

from rarts_mm.apis import UsageError, read_config, training_config
from tests.conftest import run_tool

NAMES = {
    "quotes": 'it\'s "here"',
    "backslashes": "back\\slash\\",
    "line-break": "two\nlines",
    "braces": "{ {{ }} {0}",
    "templates": "{{ fileDirname }} {{$HOME:x}} {{ _base_.model }}",
    "non-ascii": "größe 网络 🎈",
    # Closes any string that it is pasted into.
    "code": "'''+open('RAN','w').close()+''' \"+open('RAN','w').close()+\" '+open('RAN','w').name+'",
}
NAMES["code"] = NAMES["code"].replace("/", "")


@pytest.fixture(scope="module")
def pruned(search_run, tmp_path_factory) -> Path:
    """What prune writes into a folder of a harmless name; copied, as it may be moved."""
    config, checkpoint = next(search_run.glob("*.py")), search_run / "epoch_2.pth"
    out = tmp_path_factory.mktemp("pruned") / "out"
    status, _, err = run_tool("prune", config, checkpoint, "--ratio", "0.4", "--out", out)
    assert status == 0, err
    return out


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_pruned_config_finds_its_files_wherever_it_is(pruned, tmp_path, monkeypatch, name):
    """By MMEngine's own reader, from anywhere, and nothing of the name is executed."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / name
    shutil.copytree(pruned, folder)
    base = repr(str(folder / "pruned.py")).replace("{{", r"{\x7b")
    (tmp_path / "inherits.py").write_text(f"_base_ = {base}\n")
    for path in (folder / "pruned.py", Path(os.path.relpath(folder)) / "pruned.py", "inherits.py"):
        cfg = Config.fromfile(path)
        assert cfg.load_from == str(folder / "pruned.pth")
        assert cfg.work_dir == str(folder / "finetune")
        assert not {"os", "_beside"} & set(cfg)
        assert read_config(path).load_from == cfg.load_from
    assert not list(tmp_path.rglob("RAN*"))


@pytest.mark.parametrize("name", ["quotes", "code"])
def test_pruning_and_training_in_such_folders(search_run, tmp_path, monkeypatch, name):
    """The search's folder, the teacher's, and the result's: the configs name them, and are read."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / NAMES[name]
    shutil.copytree(search_run, folder)
    config = next(folder.glob("*.py"))
    weights = folder / "epoch_2.pth"
    status, _, err = run_tool("prune", config, weights, "--ratio", "0.4", "--scratch")
    assert status == 0, err
    for file, load_from in (
        ("pruned.py", folder / "pruned_40" / "pruned.pth"),
        ("scratch.py", None),
    ):
        cfg = training_config(folder / "pruned_40" / file)
        assert cfg.load_from == (load_from and str(load_from))
        assert cfg.pruning.checkpoint == str(weights)
    assert not list(tmp_path.rglob("RAN*"))


def test_a_name_that_mmengine_would_replace_is_refused_before_anything_is_written(
    small_config, search_run, pruned, tmp_path
):
    work_dir = tmp_path / "{{ fileDirname }}'x'"
    status, _, err = run_tool("train", small_config, "--work-dir", work_dir)
    assert status == 2
    assert "holds '{{ fileDirname }}', which MMEngine would replace" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("inherited", [False, True])
def test_a_config_that_pastes_its_folders_name_is_not_read_where_the_name_is_code(
    tmp_path, monkeypatch, inherited
):
    """Such as those that prune once wrote, and any of the user's."""
    ran = tmp_path / "RAN"
    folder = tmp_path / f"x' + open({ran.name!r}, 'w').name + '"
    folder.mkdir()
    path = folder / "pruned.py"
    path.write_text("load_from = '{{ fileDirname }}/pruned.pth'\n")
    if inherited:
        (tmp_path / "child.py").write_text(f"_base_ = [{str(path)!r}]\n")
        path = tmp_path / "child.py"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"\{\{ fileDirname \}\}, which pastes its name"):
        read_config(path)
    assert not ran.exists()
    plain = tmp_path / "plain"
    shutil.copytree(folder, plain)
    assert read_config(plain / "pruned.py").load_from == str(plain / "pruned.pth")
