"""Data that make no sense, or cannot be read, through the command lines."""

import copy
import json
import shutil

import pytest

from rarts_mm.apis import annotations as preflight
from tests.conftest import CONFIGS, run_tool


@pytest.fixture
def data(shapes, tmp_path):
    """A copy of the small data set that a test may change."""
    folder = tmp_path / "shapes"
    shutil.copytree(shapes, folder)
    return folder


def options(data, *more):
    """``--cfg-options`` that lead the small config to the copy."""
    phases = [f"{phase}_dataloader.dataset.data_root={data}" for phase in ("train", "val", "test")]
    files = [f"{phase}_evaluator.ann_file={data}/annotations/val.json" for phase in ("val", "test")]
    return ("--cfg-options", *phases, *files, *more)


def edit(data, change, split="train"):
    """Change an annotation file's content."""
    path = data / "annotations" / f"{split}.json"
    content = json.loads(path.read_text())
    content = change(content) or content
    path.write_text(json.dumps(content))
    return path


def train_error(config, data, *more):
    """The message of a training that is refused before anything is written."""
    work_dir = data.parent / "run"
    status, _, err = run_tool("train", config, "--work-dir", work_dir, *options(data, *more))
    assert status == 2, err
    assert "Traceback" not in err
    assert not work_dir.exists()
    return err


def entry(key, number, **values):
    def change(content):
        content[key][number].update(values)

    return change


def without(key, number, name):
    def change(content):
        del content[key][number][name]

    return change


def lacking(key):
    def change(content):
        del content[key]

    return change


def replaced(**values):
    def change(content):
        content.update(values)

    return change


NAN = float("nan")
WRONG = {
    "a box with NaN": (entry("annotations", 3, bbox=[1, 2, NAN, 4]), "id 4 (image '0"),
    "a box with infinity": (entry("annotations", 3, bbox=[1, 2, float("inf"), 4]), "inf, 4]"),
    "a negative side": (entry("annotations", 3, bbox=[30, 2, -9, 4]), "with a negative side"),
    "a huge side": (
        entry("annotations", 3, bbox=[1, 2, 1e12, 4]),
        "far beyond the image's 64 x 64",
    ),
    "a box of text": (entry("annotations", 3, bbox=["1", 2, 3, 4]), "not [x, y, width, height]"),
    "a box of three": (entry("annotations", 3, bbox=[1, 2, 3]), "not [x, y, width, height]"),
    "a box that is none": (entry("annotations", 3, bbox=None), "bbox None"),
    "no box": (without("annotations", 3, "bbox"), "id 4 (image '0"),
    "no area": (without("annotations", 3, "area"), "has no area"),
    "an area with NaN": (entry("annotations", 3, area=NAN), "has the area nan"),
    "an unknown category": (
        entry("annotations", 3, category_id=17),
        "category_id 17, which is none",
    ),
    "no category": (without("annotations", 3, "category_id"), "number 3 has no category_id"),
    "no image": (without("annotations", 3, "image_id"), "number 3 has no image_id"),
    "no id": (without("annotations", 3, "id"), "number 3 has no id"),
    "an annotation that is none": (
        lambda c: c["annotations"].insert(2, 5),
        "number 2 is a JSON number",
    ),
    "no file name": (without("images", 1, "file_name"), "number 1 has no file_name"),
    "no width": (without("images", 1, "width"), "number 1 has no width"),
    "no height": (without("images", 1, "height"), "number 1 has no height"),
    "a height of 0": (entry("images", 1, height=0), "'000001.png' has the height 0"),
    "a width of text": (entry("images", 1, width="64"), "'000001.png' has the width '64'"),
    "a category without name": (without("categories", 0, "name"), "number 0 has no name"),
    "no images": (lacking("images"), "have no 'images'"),
    "no categories": (lacking("categories"), "have no 'categories'"),
    "images that are none": (replaced(images={}), "'images' is a JSON object, not a list"),
    "annotations that are none": (replaced(annotations=7), "'annotations' is a JSON number"),
    "a list": (lambda content: [content], "hold a JSON list, not an object"),
    "a string": (lambda _: "nothing", "hold a JSON string, not an object"),
    "no annotations": (lacking("annotations"), "no box to train on"),
    "no box at all": (replaced(annotations=[]), "no box to train on"),
}


@pytest.mark.parametrize("name", WRONG)
def test_annotations_that_make_no_sense(small_config, data, name):
    change, message = WRONG[name]
    path = edit(data, change)
    err = train_error(small_config, data)
    (line,) = err.splitlines()
    assert str(path) in line
    assert message in line


@pytest.mark.parametrize("text", ["", "{", '{"images": [}', "\xff\xfe", "[" * 10**5])
def test_annotations_that_are_no_json(small_config, data, text):
    path = data / "annotations" / "train.json"
    path.write_text(text, encoding="latin-1")
    assert f"annotations {path} cannot be read: it is no JSON" in train_error(small_config, data)


def test_many_wrong_entries_are_counted(small_config, data):
    def change(content):
        for annotation in content["annotations"][:10]:
            annotation["bbox"][2] = NAN

    edit(data, change)
    assert "; and 7 more. Correct or remove these entries" in train_error(small_config, data)


def test_the_validation_data_are_looked_at_too(small_config, data):
    path = edit(data, entry("annotations", 0, bbox=[1, 2, NAN, 4]), "val")
    assert str(path) in train_error(small_config, data)
    edit(data, replaced(annotations=[]), "val")
    err = train_error(small_config, data)
    assert "no box to compare with" in err
    assert "format_only=True" in err


def test_an_evaluators_file_that_is_missing_or_broken(small_config, data, tmp_path):
    other = tmp_path / "other.json"
    err = train_error(small_config, data, f"val_evaluator.ann_file={other}")
    assert str(other) in err
    other.write_text("{")
    err = train_error(small_config, data, f"val_evaluator.ann_file={other}")
    assert f"annotations {other} cannot be read" in err


@pytest.mark.parametrize("phase", ["train", "val"])
def test_classes_that_match_no_category(small_config, data, phase):
    err = train_error(small_config, data, f"{phase}_dataloader.dataset.metainfo.classes=('a','b')")
    assert "no image left" in err
    assert "the classes of the data set are (a, b), the file has circle, rectangle, triangle" in err
    assert f"{phase}_dataloader.dataset" in err
    assert "metainfo=dict(classes=('circle', 'rectangle', 'triangle'))" in err


def test_classes_of_the_library_where_metainfo_is_missing(small_config, data):
    err = train_error(small_config, data, "train_dataloader.dataset.metainfo=None")
    assert "(person, bicycle, car, motorcycle, airplane, bus and 74 more)" in err


def test_images_smaller_than_the_filter(small_config, data):
    err = train_error(small_config, data, "train_dataloader.dataset.filter_cfg.min_size=65")
    assert "no image left" in err
    assert "filter_cfg.min_size=65" in err


def test_data_sets_inside_wrappers(small_config, data, tmp_path):
    path = edit(data, entry("annotations", 0, category_id=9))
    config = tmp_path / "wrapped.py"
    config.write_text(
        f"_base_ = '{small_config}'\n"
        "train_dataloader = dict(dataset=dict(_delete_=True, type='RepeatDataset', times=2, "
        "dataset=dict(type='ConcatDataset', "
        "datasets=[_base_.train_dataloader.dataset, _base_.train_dataloader.dataset])))\n"
    )
    work_dir = tmp_path / "run"
    places = [f"train_dataloader.dataset.dataset.datasets.{i}.data_root={data}" for i in (0, 1)]
    status, _, err = run_tool("train", config, "--work-dir", work_dir, "--cfg-options", *places)
    assert status == 2
    assert str(path) in err
    assert "category_id 9" in err


def test_what_real_files_have_is_taken(data):
    """As COCO's: degenerate boxes, crowds, images without boxes, ignored ones; and a slip at the edge."""
    content = json.loads((data / "annotations" / "train.json").read_text())
    first = content["annotations"][0]
    odd = [
        dict(bbox=[3.0, 4.0, 0.0, 7.5], area=0.0),
        dict(bbox=[3.0, 4.0, 0.4, 7.5], area=3.0),
        dict(bbox=[-2.5, 60.0, 30.0, 80.0]),
        dict(iscrowd=1, segmentation=dict(size=[64, 64], counts=[0, 4096])),
        dict(ignore=1, bbox=None),
    ]
    for number, change in enumerate(odd):
        content["annotations"].append(copy.deepcopy(first) | {"id": 10_000 + number} | change)
    content["images"].append(dict(id=999, file_name="none.png", width=64, height=64))
    from rarts_mm.datasets.coco_file import check_annotations, count_usable

    usable = count_usable(content, ["circle", "rectangle", "triangle"])
    check_annotations(content, "train.json")
    assert usable == len(content["annotations"]) - 4


def test_large_files_are_checked_while_they_are_read(small_config, data, monkeypatch):
    """With the same messages, once the model has been built."""
    from mmdet.datasets import CocoDataset

    monkeypatch.setattr(CocoDataset, "COCOAPI", CocoDataset.COCOAPI)
    monkeypatch.setattr(preflight, "LARGE", 100)
    arguments = ("--work-dir", data.parent / "run", *options(data))
    path = edit(data, entry("annotations", 3, bbox=[1, 2, NAN, 4]))
    status, _, err = run_tool("train", small_config, *arguments)
    assert status == 2
    assert f"annotations in {path}: id 4 (image" in err.splitlines()[-1]
    path.write_text("{")
    status, _, err = run_tool("train", small_config, *arguments)
    assert status == 2
    assert f"annotations {path} cannot be read" in err.splitlines()[-1]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "the file is empty"), (b"\x89PNG\r\n\x1a\nnothing", "its bytes are no image")],
    ids=["empty", "broken"],
)
def test_an_image_that_cannot_be_read_is_named(plain, data, workers, content, reason):
    image = data / "train" / "000003.png"
    image.write_bytes(content)
    more = (f"train_dataloader.num_workers={workers}", "train_dataloader.persistent_workers=False")
    arguments = ("--work-dir", data.parent / "run", *options(data, *more))
    status, _, err = run_tool("train", plain, *arguments)
    assert status == 2, err
    line = err.splitlines()[-1]
    assert line.startswith(f"error: image {image} cannot be read ({reason}")
    assert "Traceback" not in err


def test_an_image_that_is_missing_is_named_in_a_search(small_config, data):
    (data / "train" / "000003.png").unlink()
    arguments = ("--work-dir", data.parent / "run", *options(data))
    status, _, err = run_tool("train", small_config, *arguments)
    assert status == 2, err
    line = err.splitlines()[-1]
    assert f"image {data}/train/000003.png cannot be read (No such file or directory)" in line


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The demo's detector, smaller, without a search."""
    path = tmp_path_factory.mktemp("config") / "plain.py"
    path.write_text(
        f"_base_ = '{CONFIGS}/_base_/cascade-mask-rcnn_swin-micro_shapes.py'\n"
        "model = dict(backbone=dict(embed_dims=16, num_heads=[1, 2, 4, 8]), "
        "neck=dict(in_channels=[16, 32, 64, 128]))\n"
        "train_dataloader = dict(batch_size=4)\n"
        "train_cfg = dict(max_epochs=1, val_interval=1)\n"
    )
    return path


def test_a_head_with_too_few_classes(small_config, plain, data):
    """Before the first step, in a search and in a plain training; where labels show it."""
    more = "model.architecture.roi_head.mask_head.num_classes=2"
    arguments = ("--work-dir", data.parent / "search", *options(data, more))
    status, _, err = run_tool("train", small_config, *arguments)
    assert status == 2, err
    assert "roi_head.mask_head.0 (FCNMaskHead) (and 5 more like it) has num_classes=2" in err
    assert "3 classes (circle, rectangle, triangle)" in err
    assert "Set num_classes=3" in err
    assert not list((data.parent / "search").glob("*.pth"))
    more = "model.roi_head.bbox_head.1.num_classes=2"
    arguments = ("--work-dir", data.parent / "plain", *options(data, more))
    status, _, err = run_tool("train", plain, *arguments)
    assert status == 2, err
    assert "model.roi_head.bbox_head.1 (ConvFCBBoxHead) has num_classes=2" in err


def places_of_digits(folder):
    return [f"{part}_dataloader.dataset.data_root={folder}" for part in ("train", "val")]


def test_a_classifier_with_too_few_classes(tmp_path):
    run_tool("make_digits", "--out", tmp_path / "digits")
    places = places_of_digits(tmp_path / "digits")
    status, _, err = run_tool(
        "train",
        CONFIGS / "rarts_preresnet20_digits.py",
        *("--work-dir", tmp_path / "run", "--cfg-options", *places),
        "model.architecture.head.num_classes=9",
    )
    assert status == 2, err
    assert "head (LinearClsHead) (and 1 more like it) has num_classes=9" in err
    assert "10 classes" in err


def test_a_classifier_without_images(tmp_path):
    for split in ("train", "val"):
        (tmp_path / "empty" / split / "0").mkdir(parents=True)
    status, _, err = run_tool(
        "train",
        CONFIGS / "rarts_preresnet20_digits.py",
        *("--work-dir", tmp_path / "run", "--cfg-options", *places_of_digits(tmp_path / "empty")),
    )
    assert status == 2, err
    line = err.splitlines()[-1]
    assert line.startswith(f"error: no image left in a CustomDataset of {tmp_path}/empty/train")
    assert "Traceback" not in err


def test_a_detector_whose_data_set_filters_every_image(plain, data, tmp_path):
    """Of any kind of data set: here one whose files are not looked at beforehand."""
    config = tmp_path / "voc.py"
    (data / "names.txt").write_text("000001\n")
    (data / "Annotations").mkdir()
    (data / "Annotations" / "000001.xml").write_text(
        "<annotation><size><width>64</width><height>64</height></size></annotation>"
    )
    config.write_text(
        f"_base_ = '{plain}'\n"
        "train_dataloader = dict(dataset=dict(_delete_=True, type='XMLDataset', img_subdir='', "
        f"data_root='{data}', data_prefix=dict(sub_data_root=''), ann_file='names.txt', metainfo=dict(classes=('cat', 'dog', 'cow')), "
        "filter_cfg=dict(filter_empty_gt=True), pipeline=_base_.train_pipeline))\n"
    )
    more = [part for part in options(data) if not part.startswith("train")]
    status, _, err = run_tool("train", config, "--work-dir", tmp_path / "run", *more)
    assert status == 2, err
    line = err.splitlines()[-1]
    assert f"no image left in a XMLDataset of {data}/names.txt" in line
    assert "its classes are (cat, dog, cow)" in line
