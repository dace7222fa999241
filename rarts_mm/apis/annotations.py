"""Annotation files that a config names, checked before anything is built."""

import sys
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from logging import WARNING
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DATASETS

from rarts_mm.datasets.coco_file import (
    AnnotationError,
    check_classes,
    count_images,
    count_usable,
    read_annotations,
)
from rarts_mm.files import is_remote

from .backends import reads_locally
from .configs import prepare_registries

# Reading 64 MB takes a second or two; COCO's 450 MB of training boxes are checked when the data set reads
# them, just before the first step.
LARGE = 64 * 2**20


def leaf_datasets(dataset: dict, place: str) -> Iterator[tuple[str, dict]]:
    """The data sets inside wrappers, each with its place in the config."""
    if not isinstance(dataset, dict):
        return
    if isinstance(dataset.get("dataset"), dict):
        yield from leaf_datasets(dataset["dataset"], f"{place}.dataset")
    elif dataset.get("datasets"):
        for i, inner in enumerate(dataset["datasets"]):
            yield from leaf_datasets(inner, f"{place}.datasets.{i}")
    else:
        yield place, dataset


def dataset_class(dataset: Mapping) -> type | None:
    """The registered class of a data set's config; registries must be prepared."""
    kind = dataset.get("type")
    if not isinstance(kind, str):
        return kind
    with DATASETS.switch_scope_and_registry(dataset.get("_scope_")) as registry:
        return registry.get(kind)


def evaluator_files(cfg: Config, phase: str) -> Iterator[Path]:
    """Annotation files that a phase's metrics compare with."""
    for metric in _coco_metrics(cfg, phase):
        path = metric.get("ann_file")
        if isinstance(path, str) and path and not is_remote(path) and reads_locally(metric):
            yield Path(path)


def check_annotation_files(cfg: Config, phases: tuple[str, ...]) -> None:
    """Check the files in COCO format that a config's data sets and metrics read, each once.

    Those above :data:`LARGE` bytes are left for the data set, which checks them as it reads them.

    Raises:
        AnnotationError: a file is none, or has entries that make no sense; a data set has none of its
            classes, or would be left without a box to train on or to compare with.
    """
    prepare_registries(cfg)
    contents: dict[Path, dict[str, Any] | None] = {}
    for phase in phases:
        loader = cfg.get(f"{phase}_dataloader")
        if not loader:
            continue
        for place, dataset in leaf_datasets(loader["dataset"], f"{phase}_dataloader.dataset"):
            kind = _coco_class(dataset)
            path = _annotation_file(dataset)
            if kind is None or path is None:
                continue
            if (content := _read(path, contents)) is not None:
                _check_dataset(cfg, phase, place, dataset, kind, path, content)
        for path in evaluator_files(cfg, phase):
            _read(path, contents)


def _read(path: Path, contents: dict[Path, dict | None]) -> dict[str, Any] | None:
    """The content of a file, checked; None of a large one."""
    if path not in contents:
        if path.stat().st_size > LARGE:
            from rarts_mm.datasets.checked_coco import check_while_reading

            check_while_reading()
            contents[path] = None
        else:
            contents[path] = read_annotations(path)
    return contents[path]


def _coco_class(dataset: dict) -> type | None:
    """The class of a data set that reads its file as MMDetection's ``CocoDataset`` does, else None."""
    kind = dataset_class(dataset)
    # Its class is known by now; a config of classifiers need not import MMDetection for this.
    coco = sys.modules.get("mmdet.datasets.coco")
    if coco is None or not (isinstance(kind, type) and issubclass(kind, coco.CocoDataset)):
        return None
    own = any(
        getattr(kind, name) is not getattr(coco.CocoDataset, name)
        for name in ("load_data_list", "parse_data_info")
    )
    return None if own else kind


def _annotation_file(dataset: dict) -> Path | None:
    root, name = dataset.get("data_root") or "", dataset.get("ann_file")
    if not isinstance(name, str) or not name or is_remote(name) or is_remote(root):
        return None
    if not reads_locally(dataset):
        return None
    return Path(root, name)


def _check_dataset(
    cfg: Config, phase: str, place: str, dataset: dict, kind: type, path: Path, content: dict
) -> None:
    classes = kind._load_metainfo(dataset.get("metainfo")).get("classes")
    if not classes or isinstance(classes, str):
        return
    found = check_classes(content, f"{path} ({place})", classes)
    _warn_of_other_numbers(place, path, classes, found)
    if dataset.get("test_mode"):
        _check_something_to_compare(cfg, phase, place, path, content, classes)
        return
    usable = count_usable(content, classes)
    if not usable:
        boxes = len(content.get("annotations", []))
        raise AnnotationError(
            f"no box to train on in annotations {path} ({place}): of its {boxes}, none is of the "
            f"classes ({', '.join(classes)}), inside its image, not a crowd and at least one pixel "
            "wide and high. Give another ann_file, or set metainfo"
        )
    rule = dataset.get("filter_cfg") or {}
    if rule.get("filter_empty_gt") and not count_images(content, classes, rule.get("min_size", 0)):
        raise AnnotationError(
            f"no image left of annotations {path} ({place}): none with a box has sides of at least "
            f"filter_cfg.min_size={rule.get('min_size', 0)} pixels; lower it"
        )


def _warn_of_other_numbers(place: str, path: Path, classes: list[str], found: list[str]) -> None:
    for number, (name, there) in enumerate(zip_longest(classes, found)):
        if name == there:
            continue
        # As one text: MMEngine's logger drops a second warning of the same format.
        print_log(
            f"{place}: MMDetection numbers the classes as the categories of {path} stand, and there "
            f"class {number} is {there or 'missing'}, where metainfo.classes has {name}. Names in results "
            "and pictures will be wrong: give the file's classes in the file's order.",
            logger="current",
            level=WARNING,
        )
        return


def _check_something_to_compare(
    cfg: Config, phase: str, place: str, path: Path, content: dict, classes: list[str]
) -> None:
    compared = [m for m in _coco_metrics(cfg, phase) if not m.get("format_only")]
    if compared and not count_usable(content, classes):
        raise AnnotationError(
            f"no box to compare with in annotations {path} ({place}), so that the metrics of "
            f"{phase}_evaluator would mean nothing. Give another ann_file, set metainfo, or let the "
            "evaluator only write its predictions: format_only=True"
        )


def _coco_metrics(cfg: Config, phase: str) -> list[dict]:
    metrics = cfg.get(f"{phase}_evaluator") or []
    metrics = metrics if isinstance(metrics, list | tuple) else [metrics]
    return [
        metric
        for metric in metrics
        if isinstance(metric, dict) and str(metric.get("type")).rpartition(".")[2] == "CocoMetric"
    ]
