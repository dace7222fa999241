"""What a training's checkpoint holds besides tensors, built by us instead of by its pickle.

torch's restricted reader (``weights_only=True``) knows tensors and plain containers. MMEngine's
checkpoints also have the logs' history, numpy's numbers and arrays, and a method or two by name.
MMEngine allows ``getattr`` for these, from which a crafted file gets at everything; numpy's own
``__setstate__`` lets a file redefine data types. So the names stand for the classes below, which take
what such a file may say and refuse the rest, and :func:`resolve` puts the real objects in their places.
"""

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer

_CODE = re.compile(r"[biufc]\d{1,2}|U\d{1,9}|[?bhilqBHILQefdFD]")
_ANNEALING = ("_annealing_cos", "_annealing_linear")


class NotPlainError(ValueError):
    """A checkpoint uses an allowed name for something else than a value."""


class _DType:
    """A numpy data type of numbers, booleans or text."""

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not _CODE.fullmatch(code):
            raise NotPlainError(f"numpy data type {code!r}")
        self.value = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        # Version, byte order, then subarray, names and fields, which plain types have not.
        _, order, *structure = state[:5]
        if order not in ("<", ">", "=", "|") or structure != [None] * 3:
            raise NotPlainError("a structured numpy data type")
        self.value = self.value.newbyteorder(order)


class _Array:
    """A numpy array: bytes of a plain data type."""

    value: np.ndarray

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _DType) or not isinstance(raw, bytes | bytearray):
            raise NotPlainError("a numpy array of objects")
        order = "F" if fortran else "C"
        array = np.frombuffer(bytes(raw), dtype.value).reshape(shape, order=order)
        # As numpy does: in this machine's byte order, and writable.
        self.value = array.astype(array.dtype.newbyteorder("="), order=order)


class _History:
    """A :class:`~mmengine.logging.HistoryBuffer`; its statistics are those of the class."""

    value: HistoryBuffer

    def __setstate__(self, state: dict) -> None:
        self.value = HistoryBuffer(max_length=int(state["max_length"]))
        for name in ("_log_history", "_count_history"):
            array = state[name]
            if not isinstance(array, _Array):
                raise NotPlainError(f"HistoryBuffer.{name} of {type(array).__name__}")
            setattr(self.value, name, array.value)


class _OneCycle:
    """Stands for the scheduler's class, of which only its two formulas are asked for."""


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _scalar(dtype: _DType, raw: bytes) -> np.generic:
    if not isinstance(dtype, _DType):
        raise NotPlainError("a numpy scalar of no plain type")
    (value,) = np.frombuffer(raw, dtype.value)
    return value


def _attribute(owner: object, name: str) -> object:
    """``getattr``, of the few attributes that MMEngine's checkpoints name."""
    if owner is _OneCycle and name in _ANNEALING:
        from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

        return getattr(OneCycleParamScheduler, name)
    if owner is _History and name in HistoryBuffer._statistics_methods:
        return HistoryBuffer._statistics_methods[name]
    raise NotPlainError(f"getattr(..., {name!r})")


def _no_bytes() -> bytes:
    """How old pickles, torch's among them, write ``b""``: of an empty array."""
    return b""


def _config_dict(content: dict) -> ConfigDict:
    return ConfigDict(content)


def allowed() -> list[tuple[object, str]]:
    """What a checkpoint may name, for :func:`torch.serialization.safe_globals`."""
    HistoryBuffer()  # Registers its statistics.
    numpys = [
        (name, module)
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
        for name in ("_reconstruct", "scalar")
    ]
    makers = {"_reconstruct": _reconstruct, "scalar": _scalar}
    return [
        *((makers[name], f"{module}.{name}") for name, module in numpys),
        # numpy.ndarray is an argument of _reconstruct, which ignores it.
        (_Array, "numpy.ndarray"),
        (_DType, "numpy.dtype"),
        (_History, "mmengine.logging.history_buffer.HistoryBuffer"),
        (_OneCycle, "mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler"),
        (_attribute, "builtins.getattr"),
        (_no_bytes, "builtins.bytes"),
        (_config_dict, "mmengine.config.config.ConfigDict"),
    ]


def resolve(content: Any) -> Any:
    """Put the real objects in the places of what stood for them; containers stay the same objects."""
    return _resolve(content, {})


def _resolve(value: Any, seen: dict[int, Any]) -> Any:
    if isinstance(value, _Array | _History):
        return value.value
    if isinstance(value, _DType):
        raise NotPlainError("a numpy data type by itself")
    if not isinstance(value, dict | list | tuple | set):
        return value
    if id(value) in seen:
        return seen[id(value)]
    seen[id(value)] = value
    if isinstance(value, dict):
        # Not the class's own methods: a ConfigDict's build what is lazy.
        for key, item in list(dict.items(value)):
            if (new := _resolve(item, seen)) is not item:
                dict.__setitem__(value, key, new)
    elif isinstance(value, list):
        value[:] = _each(value, seen)
    elif isinstance(value, tuple):
        items = _each(value, seen)
        if any(new is not old for new, old in zip(items, value, strict=True)):
            value = seen[id(value)] = tuple(items)
    return value


def _each(values: Iterable, seen: dict[int, Any]) -> list:
    return [_resolve(value, seen) for value in values]
