"""Which files of a work dir are found: copied, killed while saving, with rubbish beside them."""

import shutil
from pathlib import Path

import pytest
import torch

from tests.conftest import run_tool
from tests.holding import locking
from tests.tools.test_bad_input import files_under
from tests.tools.test_derive import small, write_search  # noqa: F401


def derive(folder: Path, network: Path, *options) -> str:
    status, out, err = run_tool("derive", folder, "--network", network, *options)
    assert status == 0, err
    return out


def test_a_copied_search_is_derived_from_and_into_itself(tmp_path, small):  # noqa: F811
    original = write_search(tmp_path / "original")
    torch.save(torch.load(original / "epoch_50.pth"), original / "best_acc_epoch_40.pth")
    copy = tmp_path / "copy"
    shutil.copytree(original, copy)
    before = files_under(original)
    assert f"derived from {copy / 'epoch_50.pth'} (" in derive(copy, small)
    assert (copy / "derived_small" / "retrain.py").is_file()
    assert f"from {copy}/best_acc_epoch_40" in derive(copy, small, "--checkpoint", "best")
    assert files_under(original) == before
    # Moved on, with what was derived: the same again is no conflict.
    copy.rename(tmp_path / "moved")
    derive(tmp_path / "moved", small)
    # The copy lacks the last one: its own, earlier one is taken.
    (tmp_path / "moved" / "epoch_50.pth").rename(tmp_path / "moved" / "epoch_40.pth")
    assert f"{tmp_path}/moved/epoch_40.pth" in derive(
        tmp_path / "moved", small, "--out", tmp_path / "o"
    )
    assert files_under(original) == before


def test_what_looks_like_a_search_and_is_none_is_passed_over_and_named(
    tmp_path,
    small,  # noqa: F811
    monkeypatch,
):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "work_dirs"
    config = (write_search(root / "good") / "search.py").read_text()
    ran = tmp_path / "ran"
    for name, text in {
        "syntax": "model = dict(type='SearchModel'",
        "raises": f"{config}\nmodel = dict(type='SearchModel', x=1 / 0)",
        "import": f"{config}\ncustom_imports = dict(imports=['no_such_module_of_mine'])",
        # Neither is a config; they are not executed.
        "script": f"'''SearchModel'''\nopen({str(ran)!r}, 'w')",
        "class": f"class SearchModel:\n    open({str(ran)!r}, 'w')",
    }.items():
        write_search(root / name, text)
    write_search(root / "binary")
    (root / "binary" / "noise.py").write_bytes(bytes(range(256)) + b"SearchModel")
    (root / "binary" / "last_checkpoint").write_bytes(bytes(range(128, 256)) * 50)
    (root / "binary" / "epoch_50.pth").unlink()
    (root / "binary" / "last_checkpoint.py").mkdir()
    status, out, err = run_tool("derive", "--network", small)
    assert status == 0, err
    assert "derived from work_dirs/good/epoch_50.pth" in out
    for name in ("syntax", "raises", "import", "binary"):
        assert f"passed over work_dirs/{name}" in out
    assert "script" not in out
    assert "class" not in out
    assert not ran.exists()
    shutil.rmtree(root / "good")
    status, _, err = run_tool("derive", "--network", small)
    assert status == 2
    assert "no search with a checkpoint" in err
    assert "passed over work_dirs/syntax/search.py: it is no Python" in err


@pytest.mark.slow
def test_a_newer_search_of_the_other_kind_is_passed_over(
    search_copy,
    tmp_path,
    small,  # noqa: F811
    monkeypatch,
):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "work_dirs"
    root.mkdir()
    search_copy.rename(root / "widths")
    write_search(root / "cells")
    status, out, err = run_tool("prune", "--ratio", "0.4")
    assert status == 0, err
    assert "newest search: work_dirs/widths/small_search.py" in out
    assert "passed over work_dirs/cells/search.py: it searches a CellSpace" in out
    assert f"derived from {root}/cells/epoch_50.pth" in derive(root, small)
    shutil.rmtree(root / "widths")
    status, _, err = run_tool("prune", "--ratio", "0.4")
    assert status == 2
    assert "has widths to prune" in err
    assert "passed over work_dirs/cells/search.py: it searches a CellSpace" in err


@pytest.mark.parametrize("marker", [b"", None, b"\0" * 30, b"\xff\xfe\x80" * 2000])
def test_a_search_killed_while_it_wrote_a_name_is_found(tmp_path, small, marker):  # noqa: F811
    folder = write_search(tmp_path / "search", epoch=49)
    write_search(folder)
    (folder / "last_checkpoint").unlink()
    if marker is not None:
        (folder / "last_checkpoint").write_bytes(marker)
    assert f"derived from {folder / 'epoch_50.pth'}" in derive(folder, small)
    broken = folder / "epoch_50.pth"
    broken.write_bytes(broken.read_bytes()[:-100])
    assert f"derived from {folder / 'epoch_49.pth'}" in derive(
        folder, small, "--out", tmp_path / "o"
    )
    (folder / "epoch_49.pth").write_bytes(b"")
    status, _, err = run_tool("derive", folder, "--network", small)
    assert status == 2
    assert "epoch_49.pth: 0 bytes" in err


@pytest.mark.slow
def test_a_killed_search_is_pruned_and_not_written_over(small_config, search_copy, monkeypatch):
    monkeypatch.chdir(search_copy.parent)
    (search_copy / "last_checkpoint").write_text("")
    search_copy.rename(search_copy.parent / "work_dirs")
    status, out, err = run_tool("prune", "--ratio", "0.4")
    assert status == 0, err
    assert "newest search: work_dirs/small_search.py, work_dirs/epoch_2.pth" in out
    status, _, err = run_tool("train", small_config, "--work-dir", "work_dirs")
    assert status == 2
    assert "(its last checkpoint is epoch_2.pth)" in err


def test_a_folder_in_use_is_refused_by_all_and_stays_as_it_is(
    small_config,
    search_copy,
    tmp_path,
    small,  # noqa: F811
):
    config, checkpoint = next(search_copy.glob("*.py")), search_copy / "epoch_2.pth"
    topology = write_search(tmp_path / "topology")
    out = tmp_path / "out"
    with locking(search_copy) as owner, locking(out):
        before = files_under(tmp_path)
        for command in (
            ("train", small_config, "--work-dir", search_copy),
            ("train", small_config, "--work-dir", search_copy, "--resume"),
            ("train", small_config, "--work-dir", search_copy, "--resume", checkpoint),
            ("prune", config, checkpoint, "--ratio", "0.4", "--out", out),
            ("derive", topology, "--network", small, "--out", out),
        ):
            status, _, err = run_tool(*command)
            assert status == 2, err
            assert err.count("\n") == 1
            folder = out if out in command else search_copy
            assert f"error: {folder} is in use by process " in err
            if folder == search_copy:
                assert f" {owner.pid} on host " in err
            assert "write into another folder" in err
        assert files_under(tmp_path) == before


def test_a_work_dir_is_named_for_its_last_checkpoint(tmp_path):
    """``tools/test.py CONFIG WORK_DIR``; here there is none."""
    (tmp_path / "c.py").write_text("model = dict()")
    status, _, err = run_tool("test", tmp_path / "c.py", tmp_path)
    assert status == 2
    assert f"{tmp_path} holds no checkpoint" in err
