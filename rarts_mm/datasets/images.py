"""An image that cannot be read is named."""

from typing import Any

import cv2
from mmcv.transforms import BaseTransform, LoadImageFromFile


class UnreadableImageError(ValueError):
    """An image file that is missing, empty or broken; the message names it."""


class NamedImages(BaseTransform):
    """Loads images as the transform inside does; the error of one that cannot be read names it.

    OpenCV's error says what is wrong with the bytes, not where they come from.
    """

    def __init__(self, loader: LoadImageFromFile) -> None:
        self.loader = loader

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """As the loader.

        Raises:
            UnreadableImageError: the image cannot be read.
        """
        try:
            return self.loader(results)
        except (cv2.error, AssertionError, OSError, ValueError, SyntaxError) as error:
            raise UnreadableImageError(
                f"image {results.get('img_path')} cannot be read ({_reason(error)}). Put a whole file "
                "there, or take the image out of the annotations"
            ) from error

    def __repr__(self) -> str:
        return repr(self.loader)


def name_images(dataset: object) -> None:
    """Let a built data set, and those that it wraps, name the images that they cannot read."""
    for inner in innermost(dataset):
        transforms = getattr(getattr(inner, "pipeline", None), "transforms", None) or []
        for i, transform in enumerate(transforms):
            if isinstance(transform, LoadImageFromFile):
                transforms[i] = NamedImages(transform)


def innermost(dataset: object) -> list[object]:
    """The data sets inside wrappers (of concatenation, repetition, mixing and the like)."""
    inner = getattr(dataset, "datasets", None)
    if not isinstance(inner, list | tuple):
        # Some data sets have an attribute of this name that is none.
        inner = [getattr(dataset, "dataset", None)]
    inner = [each for each in inner if hasattr(each, "__getitem__") and not isinstance(each, str)]
    return [leaf for each in inner for leaf in innermost(each)] or [dataset]


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, AssertionError):
        return "its bytes are no image, or break off"
    if isinstance(error, cv2.error) and "empty" in str(error):
        return "the file is empty"
    return " ".join(str(error).split())
