"""The handwritten digits as files: whole, exact, split without overlap, readable by MMPretrain."""

import hashlib
import sys
from collections import Counter

import cv2
import numpy as np
import pytest
from mmengine.registry import DefaultScope
from sklearn.datasets import load_digits

from rarts_mm.datasets import digits as module
from rarts_mm.datasets import make_digits
from tests.conftest import run_tool

SPLITS = {"train": 1000, "val": 257, "test": 540}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / "digits"
    assert make_digits(out)
    return out


def contents(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def numbers(folder, split):
    return [int(path.stem) for path in (folder / split).glob("*/*.png")]


def test_every_image_is_in_one_split_with_its_label_and_its_values(folder):
    original = load_digits()
    seen = Counter()
    for path in folder.glob("*/*/*.png"):
        number = int(path.stem)
        seen[number] += 1
        assert int(path.parent.name) == original.target[number]
        grey = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert grey.shape == (8, 8)
        np.testing.assert_array_equal(np.rint(grey * (16 / 255)), original.images[number])
    assert seen == Counter(range(1797))
    assert {split: len(numbers(folder, split)) for split in SPLITS} == SPLITS


def test_splits_have_the_digits_in_the_proportions_of_the_whole(folder):
    shares = np.bincount(load_digits().target) / 1797
    for split, count in SPLITS.items():
        counts = [len(list((folder / split / str(digit)).iterdir())) for digit in range(10)]
        assert np.abs(counts - shares * count).max() <= 1.5


def test_the_seed_decides(folder, tmp_path):
    make_digits(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(folder)
    make_digits(tmp_path / "other", seed=1)
    for split in SPLITS:
        assert set(numbers(tmp_path / "other", split)) != set(numbers(folder, split))


def test_mmpretrain_reads_it(folder):
    from mmpretrain.datasets import CustomDataset

    with DefaultScope.overwrite_default_scope("mmpretrain"):
        dataset = CustomDataset(
            data_root=str(folder),
            data_prefix="val",
            pipeline=[dict(type="LoadImageFromFile", color_type="grayscale")],
        )
        assert len(dataset) == 257
        assert list(dataset.CLASSES) == [str(digit) for digit in range(10)]
        original = load_digits()
        for i in (0, 100, 256):
            sample = dataset[i]
            number = int(sample["img_path"].rpartition("/")[2][:4])
            assert sample["gt_label"] == original.target[number]
            expected = np.rint(original.images[number] * 255 / 16)
            np.testing.assert_array_equal(sample["img"].squeeze(), expected)


def test_the_command_makes_it_once_and_replaces_it_by_force_only(tmp_path):
    out = tmp_path / "digits"
    status, printed, _ = run_tool("make_digits", "--out", out, "--seed", 3)
    assert (status, printed) == (0, f"wrote 1000 train, 257 val, 540 test images to {out}\n")
    before = contents(out)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    status, printed, _ = run_tool("make_digits", "--out", out, "--seed", 3)
    assert status == 0
    assert "already" in printed
    assert times == {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    status, _, err = run_tool("make_digits", "--out", out, "--seed", 4)
    assert status != 0
    assert "seed 3 (asked for 4)" in err
    assert contents(out) == before
    assert run_tool("make_digits", "--out", out, "--seed", 4, "--force")[0] == 0
    assert contents(out) != before
    (out / "test" / "5").joinpath(next((out / "test" / "5").iterdir()).name).unlink()
    status, _, err = run_tool("make_digits", "--out", out, "--seed", 4)
    assert status != 0
    assert "lacks files" in err
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]


def test_a_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="left alone"):
        make_digits(tmp_path, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    encode, calls = cv2.imencode, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 700:
            raise KeyboardInterrupt
        return encode(*args)

    monkeypatch.setattr(module.cv2, "imencode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_digits(tmp_path / "digits")
    assert list(tmp_path.iterdir()) == []


def test_without_scikit_learn_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    status, _, err = run_tool("make_digits", "--out", tmp_path / "digits")
    assert status == 1
    assert err.startswith("error: ")
    assert "pip install scikit-learn" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", [-1, 2**32, True, 0.5])
def test_bad_seed(tmp_path, seed):
    with pytest.raises(ValueError, match=f"seed={seed}"):
        make_digits(tmp_path / "digits", seed=seed)
    assert list(tmp_path.iterdir()) == []
