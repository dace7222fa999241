"""A data set of which no image is left says so: which one, and why."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.dataset import BaseDataset

from .errors import UsageError


@contextmanager
def naming_empty_data_sets() -> Iterator[None]:
    """Turn what the libraries raise for an empty data set into a sentence.

    MMEngine stops at NumPy's "need at least one array to concatenate".

    Raises:
        UsageError: with the data set's kind, place and classes.
    """
    try:
        yield
    except (ValueError, RuntimeError) as error:
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        serializing = any(frame.f_code.co_name == "_serialize_data" for frame in frames)
        if not serializing and not str(error).startswith("Found 0 files"):
            raise
        found = [frame.f_locals.get("self") for frame in frames]
        dataset = next((each for each in reversed(found) if isinstance(each, BaseDataset)), None)
        if dataset is None:
            raise
        raise UsageError(_sentence(dataset)) from error


def _sentence(dataset: BaseDataset) -> str:
    files = [str(dataset.ann_file or ""), *map(str, (dataset.data_prefix or {}).values())]
    where = ", ".join(dict.fromkeys(file for file in files if file)) or "its files"
    classes = dataset.metainfo.get("classes") or ()
    of = f"; its classes are ({', '.join(classes[:6])}{', ...' * (len(classes) > 6)})" * bool(
        classes
    )
    return (
        f"no image left in a {type(dataset).__name__} of {where}{of}. See its data_root, ann_file, "
        "filter_cfg and metainfo"
    )
