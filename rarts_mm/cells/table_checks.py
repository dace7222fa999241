"""What a latency table's file must hold, before anything is computed from it."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch


def check_table(content: Any) -> None:
    """See that the content of a JSON file is a latency table that makes sense.

    Raises:
        ValueError: the first entry that does not, by its place in the file.
    """
    _check(
        content, "the file", _is_object, "a JSON object with latencies, network, measured, shapes"
    )
    latencies = _entry(
        content, "", "latencies", _is_filled_object, "kinds of cells with their rows"
    )
    _entry(content, "", "shapes", _is_filled_list, "a list of at least one measurement")
    network, measured = (
        _entry(content, "", name, _is_object, "a JSON object") for name in ("network", "measured")
    )
    _entry(network, "network", "type", _is_text, "the name of a search network")
    for name in ("channels", "layers", "in_channels"):
        _entry(network, "network", name, _is_count, "a whole number >= 1")
    operations = _entry(network, "network", "operations", _are_names, "a list of different names")
    _entry(network, "network", "input_size", _is_size, "height and width in pixels")
    _entry(measured, "measured", "device", _is_text, "such as 'cpu: NAME'")
    _entry(measured, "measured", "dtype", _is_dtype, "a floating type of torch, such as 'float32'")
    for name in ("threads", "batch_size"):
        _entry(measured, "measured", name, _is_count, "a whole number >= 1")
    for kind, rows in latencies.items():
        _check_rows(rows, f"latencies.{kind}", operations)
    for i, shape in enumerate(content["shapes"]):
        _check_shape(shape, f"shapes.{i}", operations)


def _check_rows(rows: Any, place: str, operations: list[str]) -> None:
    _check(rows, place, _is_filled_list, "a list with a row for each edge")
    for i, row in enumerate(rows):
        wanted = f"{len(operations)} numbers, one for each of network.operations"
        _check(row, f"{place}.{i}", partial(_is_row, len(operations)), wanted)
        for name, value in zip(operations, row, strict=True):
            _check(value, f"{place}.{i} ({name})", _is_time, _TIME)


def _check_shape(shape: Any, place: str, operations: list[str]) -> None:
    _check(shape, place, _is_object, "a JSON object")
    _entry(shape, place, "input", _is_shape, "channels, height and width")
    _entry(shape, place, "stride", _is_count, "a whole number >= 1")
    places = _entry(shape, place, "places", _is_object, "kinds of cells with numbers of edges")
    for kind, number in places.items():
        _check(number, f"{place}.places.{kind}", _is_count, "a whole number >= 1")
    found = _entry(shape, place, "operations", _is_object, "names with their latencies")
    if odd := sorted(set(found) ^ set(operations)):
        raise ValueError(
            f"{place}.operations and network.operations differ in {', '.join(map(str, odd))}"
        )
    for name, latency in found.items():
        here = f"{place}.operations.{name}"
        _check(latency, here, _is_object, "median, lower, upper and repeats")
        for key in ("median", "lower", "upper"):
            _entry(latency, here, key, _is_time, _TIME)
        _entry(latency, here, "repeats", _is_count, "a whole number >= 1")
        if odd := sorted(set(latency) - {"median", "lower", "upper", "repeats"}):
            raise ValueError(f"{here} has unknown entries: {', '.join(odd)}")


def _entry(
    parent: Mapping[str, Any], place: str, name: str, fits: Callable[[Any], bool], wanted: str
) -> Any:
    """A value by its name, checked."""
    path = f"{place}.{name}".lstrip(".")
    if name not in parent:
        raise ValueError(f"{path} is missing: {wanted}")
    _check(parent[name], path, fits, wanted)
    return parent[name]


def _check(value: Any, place: str, fits: Callable[[Any], bool], wanted: str) -> None:
    if not fits(value):
        text = repr(value)
        text = text if len(text) < 60 else f"{text[:57]}..."
        raise ValueError(f"{place} is {text}, but must be {wanted}")


_TIME = "a finite number >= 0 (milliseconds)"


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_filled_object(value: Any) -> bool:
    return isinstance(value, dict) and bool(value)


def _is_row(length: int, value: Any) -> bool:
    return isinstance(value, list) and len(value) == length


def _is_filled_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_time(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value >= 0


def _is_size(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_count, value))


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(_is_count, value))


def _are_names(value: Any) -> bool:
    return _is_filled_list(value) and all(map(_is_text, value)) and len(set(value)) == len(value)


def _is_dtype(value: Any) -> bool:
    found = getattr(torch, value, None) if isinstance(value, str) else None
    return isinstance(found, torch.dtype) and found.is_floating_point
