"""The input size at which a config's model is measured."""

from collections.abc import Iterator, Mapping

from mmengine.config import Config

# MMDetection's (1333, 800) names the longest allowed sides; the sizes that papers count FLOPs at,
# and its own tool, take 1280 x 800.
_COCO = (1333, 800)


def input_size(cfg: Config) -> tuple[int, int]:
    """Height and width, in pixels, of the images that a config's model sees in testing.

    Read from the test pipeline: the last transform that fixes a size. 1333 x 800 of MMDetection
    counts as 1280 x 800, the size at which the field reports FLOPs.
    """
    loader = cfg.get("test_dataloader") or cfg.get("val_dataloader") or {}
    return _said_by(loader) or (224, 224)


def searched_size(cfg: Config) -> tuple[int, int] | None:
    """Height and width of the images that a config trains on; None where no transform fixes a size."""
    return _said_by(cfg.get("train_dataloader") or {})


def _said_by(loader: Mapping) -> tuple[int, int] | None:
    size = None
    for transform in _transforms(loader.get("dataset") or {}):
        size = _size_of(transform) or size
    return size


def _transforms(dataset: Mapping) -> Iterator[Mapping]:
    inner = dataset.get("dataset")
    if isinstance(inner, Mapping):
        yield from _transforms(inner)
    yield from dataset.get("pipeline") or []


def _size_of(transform: Mapping) -> tuple[int, int] | None:
    kind = str(transform.get("type", "")).rpartition(".")[2]
    if kind == "Resize" and transform.get("scale"):
        scale = transform["scale"]
        if isinstance(scale, int):
            return scale, scale
        width, height = (1280, 800) if tuple(scale) == _COCO else scale
        return height, width
    if kind in ("CenterCrop", "RandomResizedCrop", "RandomCrop") and transform.get("crop_size"):
        crop = transform["crop_size"]
        return (crop, crop) if isinstance(crop, int) else (crop[0], crop[1])
    if kind == "RandomResizedCrop" and transform.get("scale"):
        scale = transform["scale"]
        return (scale, scale) if isinstance(scale, int) else (scale[1], scale[0])
    return None
