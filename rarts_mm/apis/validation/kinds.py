"""Kinds of values: a sentence's end that says what is wanted, and whether a value is that."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Kind:
    """What a value must be.

    Attributes:
        text: what is wanted, as it ends the sentence "batch_size=0 must be ...".
        fits: whether a value is that.
    """

    text: str
    fits: Callable[[Any], bool]

    def __or__(self, other: "Kind") -> "Kind":
        """One of two kinds."""
        return Kind(
            f"{self.text}, or {other.text}", lambda value: self.fits(value) or other.fits(value)
        )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    try:
        return (
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        )
    # A whole number beyond all floating point numbers.
    except OverflowError:
        return False


def whole(least: int, most: int | None = None) -> Kind:
    """A whole number from ``least`` on, up to ``most`` where it is given."""
    text = f"a whole number >= {least}" if most is None else f"a whole number, {least} to {most}"
    return Kind(text, lambda x: _is_whole(x) and x >= least and (most is None or x <= most))


def exactly(value: Any) -> Kind:
    """This one value."""
    return Kind(repr(value), lambda x: type(x) is type(value) and x == value)


def number(
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> Kind:
    """A finite number: ``least <= x <= most``, ``above < x < below``, as far as they are given."""
    bounds = [
        (">", above, lambda x: x > above),
        (">=", least, lambda x: x >= least),
        ("<", below, lambda x: x < below),
        ("<=", most, lambda x: x <= most),
    ]
    given = [(sign, bound, holds) for sign, bound, holds in bounds if bound is not None]
    text = " and ".join(f"{sign} {bound:g}" for sign, bound, _ in given)
    return Kind(
        f"a finite number {text}".strip(),
        lambda x: _is_finite(x) and all(holds(x) for *_, holds in given),
    )


def several(kind: Kind, least: int = 1) -> Kind:
    """A list or tuple of a kind."""
    return Kind(
        f"a list, each of it {kind.text}",
        lambda x: isinstance(x, list | tuple) and len(x) >= least and all(map(kind.fits, x)),
    )


def choice(*values: Any) -> Kind:
    """One of some values."""
    return Kind(
        "one of " + ", ".join(map(repr, values)),
        lambda x: any(type(x) is type(value) and x == value for value in values),
    )


FLAG = Kind("True or False", lambda x: isinstance(x, bool))
TEXT = Kind("a text", lambda x: isinstance(x, str) and bool(x))
NONE = Kind("None", lambda x: x is None)
MAPPING = Kind("a dict", lambda x: isinstance(x, Mapping))
MAPPINGS = Kind(
    "a list of dicts",
    lambda x: isinstance(x, list | tuple) and all(isinstance(each, Mapping) for each in x),
)
