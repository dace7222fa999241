"""A subset of ImageNet: drawn by the seed alone, listed for MMPretrain, and clear about what is missing."""

import hashlib
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.registry import DefaultScope

from rarts_mm.datasets import imagenet_subset as module
from rarts_mm.datasets import make_imagenet_subset
from tests.conftest import run_tool
from tests.datasets.imagenet import write_imagenet

CLASSES = [f"n{number:08d}" for number in (1440764, 1443537, 1484850, 2119789, 2489166, 4285008)]
# The third class is too small for a subset with 5 training images of each.
TRAIN = dict(zip(CLASSES, (6, 7, 4, 8, 6, 9), strict=True))
VAL = dict.fromkeys(CLASSES, 3)
FIVE = dict(classes=3, train=5, val=2)


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    return write_imagenet(tmp_path_factory.mktemp("by folder") / "imagenet", TRAIN, VAL)


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    return write_imagenet(tmp_path_factory.mktemp("flat") / "imagenet", TRAIN, VAL, flat=True)


def listed(out: Path, split: str) -> list[tuple[str, int]]:
    rows = (line.rsplit(" ", 1) for line in (out / f"{split}.txt").read_text().splitlines())
    return [(path, int(label)) for path, label in rows]


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_classes_with_enough_images_and_as_many_of_each(imagenet, tmp_path):
    assert make_imagenet_subset(imagenet, tmp_path / "out", **FIVE) == dict(train=15, val=6)
    names = (tmp_path / "out" / "classes.txt").read_text().splitlines()
    assert len(names) == 3
    assert names == sorted(names)
    assert set(names) <= set(CLASSES) - {CLASSES[2]}
    for split, number in (("train", 5), ("val", 2)):
        rows = listed(tmp_path / "out", split)
        assert len(rows) == len(set(rows)) == 3 * number
        assert [label for _, label in rows] == sorted([0, 1, 2] * number)
        for path, label in rows:
            assert Path(path).parent.name == names[label]
            assert (imagenet / split / path).is_file()


def test_all_images_of_all_classes(imagenet, tmp_path):
    counts = make_imagenet_subset(imagenet, tmp_path / "out", classes=6, train=None, val=None)
    assert counts == dict(train=sum(TRAIN.values()), val=18)


def test_the_draw_is_the_documented_one(imagenet, tmp_path):
    make_imagenet_subset(imagenet, tmp_path / "out", **FIVE, seed=11)

    def first(names, number, key):
        digests = {hashlib.sha256(f"{key}/{name}".encode()).hexdigest(): name for name in names}
        return sorted(digests[digest] for digest in sorted(digests)[:number])

    names = first(set(CLASSES) - {CLASSES[2]}, 3, 11)
    assert (tmp_path / "out" / "classes.txt").read_text().splitlines() == names
    for split, number in (("train", 5), ("val", 2)):
        expected = [
            (f"{name}/{image}", label)
            for label, name in enumerate(names)
            for image in first(os.listdir(imagenet / split / name), number, f"11/{split}/{name}")
        ]
        assert listed(tmp_path / "out", split) == expected


def test_neither_the_file_system_nor_the_layout_decides(imagenet, flat, tmp_path, monkeypatch):
    make_imagenet_subset(imagenet, tmp_path / "a", **FIVE)
    scandir = os.scandir

    class Backwards:
        def __init__(self, folder):
            with scandir(folder) as entries:
                self.entries = sorted(entries, key=lambda entry: entry.name, reverse=True)

        def __enter__(self):
            return self.entries

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(module.os, "scandir", Backwards)
    make_imagenet_subset(imagenet, tmp_path / "b", **FIVE)
    make_imagenet_subset(flat, tmp_path / "flat", **FIVE)
    monkeypatch.undo()
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    for name in ("classes.txt", "train.txt"):
        assert (tmp_path / "a" / name).read_text() == (tmp_path / "flat" / name).read_text()
    # The same validation images, which lie in no folder here.
    by_folder = [(Path(path).name, label) for path, label in listed(tmp_path / "a", "val")]
    assert listed(tmp_path / "flat", "val") == by_folder


def test_the_seed_decides_and_more_classes_contain_fewer(imagenet, tmp_path):
    draws = {}
    for seed, number in ((0, 3), (0, 4), (1, 3)):
        out = tmp_path / f"{seed}-{number}"
        make_imagenet_subset(imagenet, out, classes=number, train=5, val=3, seed=seed)
        draws[seed, number] = {(Path(path).parent.name, path) for path, _ in listed(out, "train")}
    assert draws[0, 3] < draws[0, 4]
    assert draws[0, 3] != draws[1, 3]


@pytest.mark.parametrize("images", ["list", "link", "copy"])
@pytest.mark.parametrize("layout", ["imagenet", "flat"])
def test_mmpretrain_reads_it(images, layout, tmp_path, request):
    from mmpretrain.datasets import CustomDataset

    source = request.getfixturevalue(layout)
    out = tmp_path / "out"
    make_imagenet_subset(source, out, **FIVE, images=images)
    names = (out / "classes.txt").read_text().splitlines()
    # To serialise so few images takes longer than to read them.
    settings = dict(pipeline=[dict(type="LoadImageFromFile")], serialize_data=False)
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        for split, number in (("train", 5), ("val", 2)):
            root = source if images == "list" else out
            dataset = CustomDataset(
                data_prefix=str(root / split),
                ann_file=str(out / f"{split}.txt"),
                classes=str(out / "classes.txt"),
                **settings,
            )
            assert len(dataset) == 3 * number
            assert list(dataset.CLASSES) == names
            for sample in (dataset[i] for i in range(len(dataset))):
                assert sample["img"].shape == (40, 48, 3)
                path = Path(sample["img_path"])
                if split == "train":
                    assert names[sample["gt_label"]] == path.name.partition("_")[0]
                else:
                    assert CLASSES.index(names[sample["gt_label"]]) == int(path.stem[-1])
            if images != "list":
                # Such a folder needs no lists.
                folder = CustomDataset(data_root=str(out), data_prefix=split, **settings)
                assert list(folder.CLASSES) == names
                paths = [sorted(d[i]["img_path"] for i in range(len(d))) for d in (folder, dataset)]
                assert paths[0] == paths[1]
                links = {path.is_symlink() for path in (out / split).rglob("*.JPEG")}
                assert links == {images == "link"}


def test_copies_are_the_images(imagenet, tmp_path):
    make_imagenet_subset(imagenet, tmp_path / "out", **FIVE, images="copy")
    for split in ("train", "val"):
        for path, _ in listed(tmp_path / "out", split):
            assert (tmp_path / "out" / split / path).read_bytes() == (
                imagenet / split / path
            ).read_bytes()


def command(imagenet, out, *more):
    arguments = ("--classes", 3, "--train", 5, "--val", 2)
    return run_tool("make_imagenet_subset", imagenet, "--out", out, *arguments, *more)


def test_the_command_makes_it_once_and_replaces_it_by_force_only(imagenet, tmp_path):
    out = tmp_path / "out"
    status, printed, err = command(imagenet, out, "--seed", 3)
    assert status == 0, err
    assert "15 training and 6 validation images of 3 classes" in printed
    assert f"relative to {imagenet}/train" in printed
    before = contents(out)
    status, printed, _ = command(imagenet, out, "--seed", 3)
    assert (status, printed) == (0, f"{out} already holds this subset\n")
    status, _, err = command(imagenet, out, "--seed", 4)
    assert status == 2
    assert "seed 3 (asked for 4)" in err
    assert contents(out) == before
    status, _, err = command(imagenet, out, "--seed", 3, "--link")
    assert status == 2
    assert "images list (asked for link)" in err
    assert contents(out) == before
    assert command(imagenet, out, "--seed", 3, "--copy", "--force")[0] == 0
    next((out / "val").rglob("*.JPEG")).unlink()
    status, _, err = command(imagenet, out, "--seed", 3, "--copy")
    assert status == 2
    assert "lacks files" in err
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_all_through_the_command(imagenet, tmp_path):
    arguments = ("--classes", 6, "--train", "all", "--val", "all")
    out = tmp_path / "out"
    status, _, err = run_tool("make_imagenet_subset", imagenet, "--out", out, *arguments)
    assert status == 0, err
    assert len(listed(out, "train")) == sum(TRAIN.values())


def test_annotations_elsewhere(flat, tmp_path):
    copy = tmp_path / "imagenet"
    shutil.copytree(flat, copy)
    annotations = tmp_path / "labels.txt"
    shutil.move(copy / "meta" / "val.txt", annotations)
    status, _, err = command(copy, tmp_path / "out")
    assert status == 2
    assert f"{copy}/meta/val.txt does not exist" in err
    assert "--val-annotations" in err
    status, _, err = command(copy, tmp_path / "out", "--val-annotations", annotations)
    assert status == 0, err
    make_imagenet_subset(flat, tmp_path / "again", **FIVE)
    assert listed(tmp_path / "out", "val") == listed(tmp_path / "again", "val")


def remove(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def empty(folder):
    for path in folder.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "arguments", "messages"),
    [
        (remove, [], ["imagenet/train", "training images", "does not exist"]),
        (lambda root: remove(root / "train"), [], ["imagenet/train, ", "does not exist"]),
        (lambda root: remove(root / "val"), [], ["imagenet/val, ", "validation images"]),
        (
            lambda root: [remove(path) for path in (root / "train").iterdir()],
            [],
            ["imagenet/train has no folders", "<class>/*.JPEG"],
        ),
        (
            lambda root: empty(root / "train" / CLASSES[1]),
            [],
            [f"without any image: {CLASSES[1]}.", "Unpack"],
        ),
        (
            lambda root: empty(root / "val" / CLASSES[4]),
            [],
            ["imagenet/val has classes without any image", CLASSES[4]],
        ),
        (
            lambda root: remove(root / "val" / CLASSES[4]),
            [],
            ["imagenet/val has no images of classes", CLASSES[4]],
        ),
        (
            lambda root: [p.write_bytes(b"") for p in (root / "train" / CLASSES[5]).iterdir()],
            ["--classes", 5],
            ["Image files are empty", f"{CLASSES[5]}_", "Unpack"],
        ),
        (None, ["--classes", 7], ["7 classes were asked for; there are 6,", "--classes."]),
        (
            None,
            ["--classes", 6],
            ["there are 6, 5 of them with 5 training and 2 validation", "--classes, or", "--train"],
        ),
        (None, ["--classes", 0], ["classes=0"]),
        (None, ["--train", 0], ["train=0", "training images"]),
        (None, ["--seed=-1"], ["seed=-1"]),
        (None, ["--train", "some"], ["--train", "'some'"]),
    ],
)
def test_what_is_missing_is_named(spoil, arguments, messages, imagenet, tmp_path):
    source = imagenet
    if spoil:
        source = tmp_path / "imagenet"
        shutil.copytree(imagenet, source)
        spoil(source)
    status, _, err = command(source, tmp_path / "out", *arguments)
    assert status == 2
    for message in messages:
        assert message in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("spoil", "messages"),
    [
        (lambda text: text.replace(" 5\n", " 6\n", 1), ["label 6", "has 6 only"]),
        (lambda text: text.replace(" 5\n", " five\n", 1), ["val.txt, line ", "'name label'"]),
        (lambda text: text.replace("val_0", "val_1"), ["images are missing", "val_1"]),
        (lambda text: text.replace(" 5\n", " 4\n"), ["no images of classes", CLASSES[5]]),
    ],
)
def test_annotations_that_do_not_fit(spoil, messages, flat, tmp_path):
    annotations = tmp_path / "val.txt"
    annotations.write_text(spoil((flat / "meta" / "val.txt").read_text()))
    status, _, err = command(flat, tmp_path / "out", "--val-annotations", annotations)
    assert status == 2
    for message in messages:
        assert message in err
    assert not (tmp_path / "out").exists()


def test_folders_that_are_no_classes_shift_no_label(flat, tmp_path):
    source = tmp_path / "imagenet"
    shutil.copytree(flat, source)
    (source / "train" / ".cache").mkdir()
    (source / "train" / "a note.txt").write_text("")
    make_imagenet_subset(source, tmp_path / "a", **FIVE)
    make_imagenet_subset(flat, tmp_path / "b", **FIVE)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_an_interrupted_copy_leaves_nothing(imagenet, tmp_path, monkeypatch):
    copy, calls = shutil.copyfile, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return copy(*args)

    monkeypatch.setattr(module.shutil, "copyfile", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_imagenet_subset(imagenet, tmp_path / "out", **FIVE, images="copy")
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_folder_is_left_alone(imagenet, tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(cv2.imencode(".jpg", np.zeros((4, 4)))[1].tobytes())
    with pytest.raises(FileExistsError, match="left alone"):
        make_imagenet_subset(imagenet, tmp_path, **FIVE, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_defaults_are_the_theses(monkeypatch, tmp_path):
    """20 classes of 1300 and 50 images, listed by a stand-in for the file system."""
    short = "n00000020"

    def names(folder, prefix):
        number = 50 if folder.parent.name == "val" else 1300 - (folder.name == short)
        return [f"{prefix}/{i}.JPEG" for i in range(number)]

    source = tmp_path / "imagenet"
    for i in range(21):
        for split in ("train", "val"):
            (source / split / f"n{i:08d}").mkdir(parents=True)
    monkeypatch.setattr(module, "_image_names", names)
    monkeypatch.setattr(module, "_check_images", lambda paths: None)
    status, printed, err = run_tool("make_imagenet_subset", source, "--out", tmp_path / "out")
    assert status == 0, err
    assert "26000 training and 1000 validation images of 20 classes" in printed
    classes = (tmp_path / "out" / "classes.txt").read_text().splitlines()
    assert classes == [f"n{i:08d}" for i in range(20)]
    make_imagenet_subset(source, tmp_path / "again")
    assert contents(tmp_path / "out") == contents(tmp_path / "again")
