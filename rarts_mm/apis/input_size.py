"""The input size at which a config's model is measured: what its pipeline and preprocessor really give."""

import copy
from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS
from torch import nn

from rarts_mm.files import is_remote

from .annotations import dataset_class, leaf_datasets
from .backends import reads_images_locally, reads_locally
from .configs import prepare_registries
from .errors import UsageError
from .image_pipeline import PIPELINE_ERRORS, ImagePipeline, undisturbed
from .preflight import missing_files

# Height and width of two images of different shapes: what does not depend on the image comes out the same.
_ODD, _OTHER = (427, 640), (500, 333)
# Data sets of arrays, whose images all have one size, by the name of the class.
_ARRAYS = {"CIFAR10": (32, 32), "MNIST": (28, 28)}


def input_size(cfg: Config) -> tuple[int, int]:
    """Height and width, in pixels, of the images that a config's network sees in testing.

    Found by running the pipeline of the test data (of the validation, then of the training data where
    there are none) and the model's preprocessor, which may pad, on one image:

    - Where a transform names a scale, on random pixels of that scale, so that what keeps the ratio
      comes out at its nominal size; a single number is a square. 1333 x 800 of MMDetection counts as
      1280 x 800, the size at which the field reports FLOPs.
    - Else, where the size depends on the image, on the first image of the data set, if it is there.

    The same config always gives the same size; random transforms are seeded.

    Raises:
        UsageError: nothing says the size.
    """
    prepare_registries(cfg)
    phases = [
        p for p in ("test", "val", "train") if (cfg.get(f"{p}_dataloader") or {}).get("dataset")
    ]
    if not phases:
        raise UsageError(
            "the config has no test_dataloader, val_dataloader or train_dataloader that would say how "
            "large the images are; give their size: --input-size HEIGHT WIDTH"
        )
    phase = phases[0]
    dataset = cfg[f"{phase}_dataloader"]["dataset"]
    pipeline = ImagePipeline(dataset)
    padding = _preprocessor(cfg)
    size = None
    if (nominal := pipeline.nominal_size) is not None:
        size = _seen(pipeline.run(nominal), padding)
    if size is None:
        size = _same(pipeline, padding, (_ODD, _OTHER))
    if size is None:
        leaf = next(leaf_datasets(dataset, ""))[1]
        size = _of_arrays(leaf, pipeline, padding) or _seen(_first(cfg, phase, leaf), padding)
    if size is None:
        raise UsageError(
            f"how large the images are that the network sees depends on the images of {phase}_dataloader, "
            "and none of them can be looked at here; give their size: --input-size HEIGHT WIDTH"
        )
    return size


def searched_size(cfg: Config) -> tuple[int, int] | None:
    """Height and width of the images that a config trains on; None where they are of several sizes.

    What keeps the ratio comes out at its nominal size, as in :func:`input_size`.
    """
    dataset = (cfg.get("train_dataloader") or {}).get("dataset")
    if not dataset:
        return None
    prepare_registries(cfg)
    pipeline, padding = ImagePipeline(dataset), _preprocessor(cfg)
    nominal = None if pipeline.draws_scales else pipeline.nominal_size
    size = _same(
        pipeline, padding, (_ODD, _OTHER) if nominal is None else (nominal,), seeds=range(5)
    )
    return size or _of_arrays(next(leaf_datasets(dataset, ""))[1], pipeline, padding)


def _same(
    pipeline: ImagePipeline,
    padding: nn.Module | None,
    shapes: Iterable[tuple[int, int]],
    seeds: Iterable[int] = (0,),
) -> tuple[int, int] | None:
    """The size that comes out in all cases, if there is one."""
    sizes = {_seen(pipeline.run(*case), padding) for case in product(shapes, seeds)}
    return sizes.pop() if len(sizes) == 1 else None


def _of_arrays(
    leaf: Mapping, pipeline: ImagePipeline, padding: nn.Module | None
) -> tuple[int, int] | None:
    names = {base.__name__ for base in getattr(dataset_class(leaf), "__mro__", ())}
    shape = next((size for name, size in _ARRAYS.items() if name in names), None)
    return None if shape is None else _seen(pipeline.run(shape), padding)


def _first(cfg: Config, phase: str, leaf: Mapping) -> Any:
    """What the data set gives for its first image; None where its files are not here."""
    here = reads_locally(leaf) and reads_images_locally(leaf)
    if not here or is_remote(leaf.get("data_root") or "") or missing_files(cfg, (phase,)):
        return None
    settings = dict(copy.deepcopy(leaf))
    if "download" in settings:
        settings["download"] = False
    with undisturbed():
        try:
            return DATASETS.build(settings)[0]
        except PIPELINE_ERRORS:
            return None


def _preprocessor(cfg: Config) -> nn.Module | None:
    """The model's data preprocessor, which may pad."""
    model = cfg.get("model") or {}
    settings = (
        (model.get("architecture") or {}).get("data_preprocessor")
        or model.get("data_preprocessor")
        or cfg.get("data_preprocessor")
    )
    if not isinstance(settings, Mapping) or not settings.get("type"):
        return None
    return MODELS.build(copy.deepcopy(settings))


def _seen(sample: Any, padding: nn.Module | None) -> tuple[int, int] | None:
    """Height and width of what a network sees of a packed sample; None of what is no image."""
    inputs = sample.get("inputs") if isinstance(sample, Mapping) else None
    if isinstance(inputs, list | tuple) and inputs:
        # Test-time augmentation: the first of several.
        sample = {key: value[0] for key, value in sample.items()}
        inputs = inputs[0]
    if not isinstance(inputs, torch.Tensor) or inputs.ndim < 2:
        return None
    if padding is not None:
        try:
            inputs = padding(pseudo_collate([copy.deepcopy(dict(sample))]), False)["inputs"]
        except PIPELINE_ERRORS:
            return None
    height, width = inputs.shape[-2:]
    return int(height), int(width)
