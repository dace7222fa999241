"""The generated data set: what is annotated is what is seen, and the files can be relied on."""

import hashlib
import json

import cv2
import numpy as np
import pytest
from mmengine.registry import DefaultScope
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from rarts_mm.datasets import make_shapes, shapes_metainfo
from rarts_mm.datasets import shapes as module
from rarts_mm.datasets.shapes import CLASSES, draw
from tests.conftest import run_tool

SMALL = dict(train=6, val=4, size=64, seed=3)


def contents(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def decoded(annotation, size):
    """An annotation's mask as pycocotools sees it."""
    runs = coco_mask.frPyObjects(annotation["segmentation"], size, size)
    return coco_mask.decode(coco_mask.merge(runs)).astype(bool)


def test_every_image_is_a_function_of_seed_split_and_index(tmp_path):
    make_shapes(tmp_path / "a", **SMALL)
    make_shapes(tmp_path / "b", **SMALL)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")

    make_shapes(tmp_path / "more", **{**SMALL, "train": 9})
    few, more = contents(tmp_path / "a"), contents(tmp_path / "more")
    for name in few:
        if name.startswith("train/"):
            assert few[name] == more[name]
    annotations = [
        json.loads((tmp_path / which / "annotations" / "train.json").read_text())["annotations"]
        for which in ("a", "more")
    ]
    assert annotations[0] == annotations[1][: len(annotations[0])]

    backwards = {index: draw(index, "val", 64, 3)[0] for index in (3, 2, 1, 0)}
    for index, image in backwards.items():
        read = cv2.imread(str(tmp_path / "a" / "val" / f"{index:06d}.png"))
        np.testing.assert_array_equal(read, image)


def test_seed_split_and_index_each_change_the_image():
    reference = draw(0, "train", 64, 0)[0]
    for other in (draw(1, "train", 64, 0), draw(0, "val", 64, 0), draw(0, "train", 64, 1)):
        assert not np.array_equal(reference, other[0])


@pytest.mark.parametrize("seed", [0, 1])
def test_annotations_are_exact_coco(tmp_path, seed):
    """Area and box are those of the polygons, and no pixel belongs to two instances."""
    make_shapes(tmp_path / "d", train=30, val=1, size=96, seed=seed, classes=CLASSES)
    coco = COCO(str(tmp_path / "d" / "annotations" / "train.json"))
    assert sorted(coco.anns) == list(range(1, len(coco.anns) + 1))
    assert sorted(coco.imgs) == list(range(1, 31))
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    neighbours = 0
    for image_id in coco.imgs:
        annotations = coco.loadAnns(coco.getAnnIds(image_id))
        assert 1 <= len(annotations) <= 4
        count, whole = np.zeros((96, 96), int), np.zeros((96, 96), np.uint8)
        for a in annotations:
            assert a["iscrowd"] == 0
            points = np.concatenate([np.reshape(p, (-1, 2)) for p in a["segmentation"]])
            assert points.min() >= 0
            assert points.max() <= 96
            x, y, w, h = a["bbox"]
            np.testing.assert_allclose([x, y], points.min(0), atol=0.011)
            np.testing.assert_allclose([x + w, y + h], points.max(0), atol=0.011)
            shoelace = 0.0
            for p in a["segmentation"]:
                px, py = np.reshape(p, (-1, 2)).T
                shoelace += abs(px @ np.roll(py, 1) - py @ np.roll(px, 1)) / 2
            assert a["area"] == pytest.approx(shoelace, abs=0.01)
            mask = decoded(a, 96)
            # Rasterising moves the outline by less than half a pixel.
            assert abs(mask.sum() - a["area"]) < 0.5 * (w + h) + 2
            neighbours += (cv2.dilate(whole, np.ones((3, 3))) & mask).any()
            whole |= mask
            count += cv2.erode(mask.astype(np.uint8), np.ones((3, 3)))
        assert count.max() == 1
    assert neighbours > 5, "hardly any two shapes overlap: the test shows nothing"


def test_masks_lie_on_the_shapes_that_are_seen(monkeypatch):
    """With plain colours and no noise, a mask's inner pixels have the colour of one shape."""

    def flat(rng, size, colour):
        return np.broadcast_to(colour, (size, size, 3))

    monkeypatch.setattr(module, "_textured", flat)
    seen = 0
    for index in range(20):
        image, annotations = draw(index, "train", 96, 5, CLASSES)
        whole = np.zeros((96, 96), bool)
        for a in annotations:
            mask = decoded(a, 96)
            inner = cv2.erode(mask.astype(np.uint8), np.ones((5, 5))).astype(bool)
            if inner.sum() > 20:
                # Noise has a standard deviation of at most 12, a change of colour is far larger.
                assert image[inner].astype(float).std(axis=0).max() < 15
                seen += 1
            whole |= mask
        background = cv2.dilate(whole.astype(np.uint8), np.ones((3, 3))) == 0
        for a in annotations:
            mask = decoded(a, 96)
            distance = image[mask].mean(axis=0) - np.median(image[background], axis=0)
            assert np.linalg.norm(distance) > 25
    assert seen > 20


def test_a_hole_is_cut_open():
    square = module.box(0, 0, 20, 20).difference(module.box(6, 6, 10, 12))
    square = square.difference(module.box(13, 3, 16, 7))
    shape = module._Shape(0, square, square)
    annotation = module._annotate(shape)
    assert annotation["area"] == 400 - 24 - 12
    expected = np.ones((20, 20), bool)
    expected[6:12, 6:10] = False
    expected[3:7, 13:16] = False
    np.testing.assert_array_equal(decoded(annotation, 20), expected)


def test_cue_decides_how_much_colour_tells():
    """Colour is near the class's for the share ``cue`` of the shapes, and any colour for none."""

    def near(cue):
        hits = []
        for index in range(60):
            image, annotations = draw(index, "train", 64, 1, cue=cue)
            for a in annotations:
                mean = image[decoded(a, 64)].mean(axis=0)
                palette = np.array(shapes_metainfo()["palette"])[:, ::-1]
                nearest = np.linalg.norm(palette - mean, axis=1).argmin() + 1
                hits.append(nearest == a["category_id"])
        return np.mean(hits)

    assert near(0.0) < 0.5
    assert near(1.0) > 0.8


def test_mmdet_reads_it(tmp_path):
    from mmdet.datasets import CocoDataset
    from mmdet.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    make_shapes(tmp_path / "d", **SMALL, classes=("star", "circle"))
    with DefaultScope.overwrite_default_scope("mmdet"):
        dataset = CocoDataset(
            data_root=str(tmp_path / "d"),
            ann_file="annotations/train.json",
            data_prefix=dict(img="train/"),
            metainfo=shapes_metainfo(("star", "circle")),
            filter_cfg=dict(filter_empty_gt=True, min_size=32),
            pipeline=[
                dict(type="LoadImageFromFile"),
                dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
            ],
        )
    raw = json.loads((tmp_path / "d" / "annotations" / "train.json").read_text())
    assert len(dataset) == 6
    assert sum(len(dataset[i]["gt_bboxes"]) for i in range(6)) == len(raw["annotations"])
    first = [a for a in raw["annotations"] if a["image_id"] == 1]
    assert dataset[0]["img"].shape == (64, 64, 3)
    np.testing.assert_array_equal(
        dataset[0]["gt_bboxes_labels"], [a["category_id"] - 1 for a in first]
    )
    np.testing.assert_array_equal(
        dataset[0]["gt_masks"].to_ndarray().astype(bool), [decoded(a, 64) for a in first]
    )


def test_run_again_changes_nothing(tmp_path):
    out = tmp_path / "d"
    args = ["--out", out, "--train", 3, "--val", 2, "--size", 48, "--seed", 7]
    status, printed, _ = run_tool("make_shapes", *args)
    assert status == 0
    assert "3 training and 2 validation images" in printed
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    status, printed, _ = run_tool("make_shapes", *args)
    assert status == 0
    assert "already" in printed
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_another_data_set_is_replaced_by_force_only(tmp_path):
    out = tmp_path / "d"
    make_shapes(out, **SMALL)
    before = contents(out)
    args = ["--out", out, "--train", 2, "--val", 2, "--size", 48]
    status, _, err = run_tool("make_shapes", *args)
    assert status != 0
    assert "train 6 (asked for 2)" in err
    assert "--force" in err
    assert contents(out) == before
    assert run_tool("make_shapes", *args, "--force")[0] == 0
    assert len(list((out / "train").iterdir())) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_a_foreign_folder_is_left_alone_even_with_force(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="left alone"):
        make_shapes(tmp_path, **SMALL, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_missing_images_are_noticed(tmp_path):
    make_shapes(tmp_path / "d", **SMALL)
    (tmp_path / "d" / "train" / "000002.png").unlink()
    with pytest.raises(FileExistsError, match="lacks files"):
        make_shapes(tmp_path / "d", **SMALL)
    assert make_shapes(tmp_path / "d", **SMALL, force=True)


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*args):
        if args[0] == 3:
            raise KeyboardInterrupt
        return draw(*args)

    monkeypatch.setattr(module, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_shapes(tmp_path / "d", **SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(train=0), "train=0"),
        (dict(val=-1), "val=-1"),
        (dict(size=8), "size=8"),
        (dict(seed=-2), "seed=-2"),
        (dict(cue=1.5), r"cue=1\.5"),
        (dict(classes=("circle", "blob")), "blob"),
        (dict(classes=("star", "star")), "different"),
        (dict(classes=()), "one or more"),
    ],
)
def test_bad_arguments(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        make_shapes(tmp_path / "d", **{**SMALL, **wrong})
    assert list(tmp_path.iterdir()) == []
