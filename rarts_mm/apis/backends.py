"""Which files a data set reads from this machine's disks, and which through another storage backend."""

from collections.abc import Iterator, Mapping
from typing import Any

# MMEngine's names of the backend that reads this machine's files.
_LOCAL = ("local", "disk", "localbackend", "harddiskbackend")
# How configs give a backend, now and in MMEngine's first versions.
_KEYS = ("backend_args", "file_client_args")


def reads_locally(settings: Mapping) -> bool:
    """Whether a data set, metric or transform reads its files as they are named, from this machine.

    Not so with a backend such as petrel, http or LMDB, or with prefixes that are mapped to other places.
    """
    return not any(_elsewhere(settings.get(key)) for key in _KEYS)


def reads_images_locally(dataset: Mapping) -> bool:
    """As :func:`reads_locally`, for the images: they are read by the pipeline, with a backend of its own."""
    loaders = [t for t in _transforms(dataset.get("pipeline") or []) if any(k in t for k in _KEYS)]
    return all(reads_locally(each) for each in (loaders or [dataset]))


def _elsewhere(backend: Any) -> bool:
    if not isinstance(backend, Mapping):
        return False
    kind = backend.get("backend") or "local"
    name = (kind if isinstance(kind, str) else kind.__name__).rpartition(".")[2].lower()
    # A prefix chooses a backend, too.
    chosen = backend.get("prefix") or "local"
    return name not in _LOCAL or chosen != "local" or bool(backend.get("path_mapping"))


def _transforms(pipeline: Any) -> Iterator[Mapping]:
    """Configs of transforms, those inside others too."""
    for transform in pipeline:
        if isinstance(transform, Mapping):
            yield transform
            yield from _transforms(transform.get("transforms") or [])
        elif isinstance(transform, list | tuple):
            yield from _transforms(transform)
