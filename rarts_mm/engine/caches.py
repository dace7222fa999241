"""Transforms that remember earlier images, so that a resumed run would see other ones."""

from collections.abc import Iterator


def caching_transforms(dataset: object) -> list[str]:
    """Names of the transforms of a data set, wrappers included, that keep a cache of images.

    What a transform draws is exact after resuming, whichever further images of the data set it takes;
    what is in its cache (MMDetection's ``CachedMosaic``, ``CachedMixUp``) comes from earlier steps.
    """
    names = {type(t).__name__ for d in _datasets(dataset) for t in _transforms(d) if _has_cache(t)}
    return sorted(names)


def _datasets(dataset: object) -> Iterator[object]:
    yield dataset
    inner = [getattr(dataset, name, None) for name in ("dataset", "_dataset")]
    for one in (*inner, *(getattr(dataset, "datasets", None) or ())):
        if one is not None:
            yield from _datasets(one)


def _transforms(owner: object) -> Iterator[object]:
    """The transforms of a data set, and those inside them (random choices and the like)."""
    for name in ("pipeline", "transforms"):
        for one in _flat(getattr(owner, name, None)):
            yield one
            yield from _transforms(one)


def _flat(transforms: object) -> Iterator[object]:
    if isinstance(transforms, list | tuple):
        for one in transforms:
            yield from _flat(one)
    elif transforms is not None:
        yield transforms


def _has_cache(transform: object) -> bool:
    public = {k: v for k, v in getattr(transform, "__dict__", {}).items() if not k.startswith("_")}
    return any("cache" in k and v is not None and v is not False for k, v in public.items())
