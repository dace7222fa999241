"""Errors of classes that are built from a config, as sentences that name the class."""

import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.registry import build_from_cfg

from ..errors import UsageError

# What constructors raise at settings that do not fit. Memory and interrupts are no matter of settings.
_REFUSALS = (
    *(ValueError, TypeError, AttributeError, LookupError, ArithmeticError, AssertionError),
    *(ImportError, RuntimeError),
)
TRACEBACK = "RARTS_MM_TRACEBACK"


@contextmanager
def explained_building(unless: Callable[[BaseException], bool]) -> Iterator[None]:
    """Turn what goes wrong while a class is built from a config into a sentence.

    Whoever writes such a class sees the traceback with the environment's ``RARTS_MM_TRACEBACK=1``.

    Args:
        unless: whether an error has said all by itself; it goes on as it is.

    Raises:
        UsageError: a class refused, or stumbled over, its settings.
    """
    try:
        yield
    except _REFUSALS as error:
        if os.environ.get(TRACEBACK) or unless(error):
            raise
        builds = [
            frame.f_locals
            for frame, _ in traceback.walk_tb(error.__traceback__)
            if frame.f_code is build_from_cfg.__code__
        ]
        if not builds:
            raise
        raise UsageError(_sentence(builds, error)) from error


def _sentence(builds: list[dict[str, Any]], error: Exception) -> str:
    names = [_name(local) for local in builds]
    reason = str(error).strip().splitlines() or ["it says no more"]
    inside = f", inside {' inside '.join(reversed(names[:-1]))}," if len(names) > 1 else ""
    return (
        f"{names[-1]}{inside} cannot be built from the config: {type(error).__name__}: {reason[0]}. "
        f"Correct its settings ({_settings(builds[-1])}); {TRACEBACK}=1 in the environment shows where "
        "it failed"
    )


def _name(local: dict[str, Any]) -> str:
    kind = local.get("obj_cls") or local.get("obj_type") or local["cfg"].get("type", "a part")
    return getattr(kind, "__name__", str(kind))


def _settings(local: dict[str, Any]) -> str:
    text = ", ".join(f"{k}={v!r}" for k, v in local["cfg"].items() if k != "type")
    return text if len(text) <= 200 else f"{text[:197]}..."
