"""A config's data pipeline, run on an image of random pixels in the place of one that is loaded."""

import copy
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.registry import TRANSFORMS

from .errors import UsageError

# What transforms raise for an image that they cannot take, or that has not what they look for.
PIPELINE_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
# MMDetection's 1333 x 800 names the longest allowed sides; the sizes that papers count FLOPs at take
# 1280 x 800, which such an image keeps.
_COCO, _COCO_SIZE = (800, 1333), (800, 1280)


@contextmanager
def undisturbed(seed: int = 0) -> Iterator[None]:
    """Seed the global generators of the host inside; they go on outside as if nothing had been drawn."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


class ImagePipeline:
    """The transforms of a data set and of the wrappers around it, without the one that loads images.

    Args:
        dataset: config of a data set, whose registries have been prepared.
    """

    def __init__(self, dataset: Mapping) -> None:
        self._dataset = dataset
        self._transforms = None

    @property
    def transforms(self) -> list:
        """Built transforms in the order in which a sample passes them."""
        if self._transforms is None:
            self._transforms = [_build(each) for each in _pipeline(self._dataset)]
        return self._transforms

    @property
    def draws_scales(self) -> bool:
        """Whether a transform draws the scale of an image from several."""
        return any(_several(each) for each in _flat(self.transforms))

    @property
    def nominal_size(self) -> tuple[int, int] | None:
        """Height and width of the scale that the first transform with one names."""
        return next(filter(None, map(_nominal, _flat(self.transforms))), None)

    def run(self, shape: tuple[int, int], seed: int = 0) -> Any:
        """What comes out for an image of random pixels; None where the transforms cannot take one.

        Args:
            shape: height and width of the image.
            seed: of the pixels and of the transforms' draws.
        """
        with undisturbed(seed):
            try:
                results = None
                for transform in self.transforms:
                    if _loads_images(transform):
                        results = _sample(shape, transform)
                        continue
                    if results is None:
                        results = _sample(shape)
                    if hasattr(transform, "get_indices"):
                        # Mixes in other images, which are this one here.
                        number = np.size(transform.get_indices([results]))
                        results["mix_results"] = [copy.deepcopy(results) for _ in range(number)]
                    results = transform(results)
                    if results is None:
                        return None
            except PIPELINE_ERRORS:
                return None
        return results


def _pipeline(dataset: Mapping) -> Iterator[Any]:
    """Transforms of the first data set inside wrappers, then those of the wrappers."""
    inner = dataset.get("dataset")
    if not isinstance(inner, Mapping):
        inner = next(iter(dataset.get("datasets") or []), None)
    if isinstance(inner, Mapping):
        yield from _pipeline(inner)
    yield from dataset.get("pipeline") or []


def _build(transform: Any) -> Any:
    if not isinstance(transform, Mapping):
        return transform
    try:
        return TRANSFORMS.build(copy.deepcopy(dict(transform)))
    except (ImportError, *PIPELINE_ERRORS) as error:
        raise UsageError(
            f"the transform {transform.get('type')!r} of a data pipeline cannot be built, so that the "
            f"size of the images is unknown ({type(error).__name__}: {error}); correct it, or give the "
            "size: --input-size HEIGHT WIDTH"
        ) from error


def _flat(transforms: Any) -> Iterator[Any]:
    """Transforms, those inside others too."""
    for transform in transforms:
        if isinstance(transform, list | tuple):
            yield from _flat(transform)
            continue
        yield transform
        inner = getattr(transform, "transforms", None)
        if isinstance(inner, Compose):
            inner = inner.transforms
        if isinstance(inner, list | tuple):
            yield from _flat(inner)


def _several(transform: Any) -> bool:
    if getattr(transform, "scales", None):
        return True
    scale = getattr(transform, "scale", None)
    return isinstance(scale, list | tuple) and any(isinstance(s, list | tuple) for s in scale)


def _nominal(transform: Any) -> tuple[int, int] | None:
    scale = getattr(transform, "scale", None)
    if scale is None and (scales := getattr(transform, "scales", None)):
        scale = scales[0]
    if isinstance(scale, list | tuple) and scale and isinstance(scale[0], list | tuple):
        scale = scale[0]
    if isinstance(scale, int) and not isinstance(scale, bool):
        return (scale, scale) if scale > 0 else None
    if not isinstance(scale, list | tuple) or len(scale) != 2:
        return None
    if not all(isinstance(side, int) and side > 0 for side in scale):
        return None
    if tuple(sorted(scale)) == _COCO and getattr(transform, "keep_ratio", True):
        return _COCO_SIZE
    width, height = scale
    return height, width


def _loads_images(transform: Any) -> bool:
    names = {base.__name__ for base in type(transform).__mro__}
    return any(name.startswith("Load") and "Image" in name for name in names)


def _sample(shape: tuple[int, int], loader: Any = None) -> dict[str, Any]:
    """What a data set and its loader give, with one object on the image."""
    height, width = shape
    grey = str(getattr(loader, "color_type", "")).startswith("grayscale")
    image = np.random.randint(0, 256, shape if grey else (*shape, 3), dtype=np.uint8)
    if getattr(loader, "to_float32", False):
        image = image.astype(np.float32)
    right, bottom = 0.75 * width, 0.75 * height
    left, top = 0.25 * width, 0.25 * height
    outline = [left, top, right, top, right, bottom, left, bottom]
    instance = dict(bbox=[left, top, right, bottom], bbox_label=0, ignore_flag=0, mask=[outline])
    return dict(
        img=image,
        img_shape=shape,
        ori_shape=shape,
        height=height,
        width=width,
        img_path="image.png",
        img_id=0,
        sample_idx=0,
        gt_label=0,
        instances=[instance],
    )
