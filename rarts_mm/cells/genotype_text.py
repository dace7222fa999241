"""Reads the text of a genotype as data: the classic form or JSON. Nothing of it is evaluated."""

import ast
import difflib
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

# A genotype has some 600 characters. Python's parser needs memory and stack for what is longer.
LONGEST = 10_000


def read_text(text: str, names: Sequence[str], published: Iterable[str]) -> dict[str, Any]:
    """The values of ``Genotype(name=value, ...)``, also with ``NAME =`` before it, or of a JSON object.

    Args:
        text: as printed by a search.
        names: of the genotype's parts, in the order that values without a name have.
        published: names of known genotypes, for a hint.

    Raises:
        ValueError: the text is neither, with the place.
    """
    text = text.strip()
    if len(text) > LONGEST:
        raise ValueError(f"genotype: the text has {len(text)} characters, more than {LONGEST}")
    if text.startswith("{"):
        return _read_json(text)
    if re.fullmatch(r"[\w.-]*", text):
        raise ValueError(
            f"genotype: {text!r} is no text of a genotype and no published one"
            f"{nearest(text, published)}"
        )
    return _read_call(re.sub(r"^\w+\s*=(?!=)\s*", "", text), names)


def nearest(name: object, names: Iterable[str]) -> str:
    """What to add to "unknown ...": the name that was probably meant, and all there are."""
    names = list(names)
    found = difflib.get_close_matches(str(name).lower(), [n.lower() for n in names], n=1)
    meant = [n for n in names if found and n.lower() == found[0]]
    return f"{f'; did you mean {meant[0]!r}?' if meant else ';'} known: {', '.join(names)}"


def _read_json(text: str) -> dict[str, Any]:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"genotype: not JSON: {error}") from error


def _read_call(text: str, names: Sequence[str]) -> dict[str, Any]:
    try:
        call = ast.parse(text, mode="eval").body
    except (SyntaxError, RecursionError, MemoryError, ValueError) as error:
        raise ValueError(f"genotype: not the text of a genotype: {_place(error)}") from error
    if not isinstance(call, ast.Call) or _called(call) != "Genotype":
        raise ValueError(f"genotype: expected Genotype({', '.join(f'{n}=...' for n in names)})")
    if len(call.args) > len(names):
        raise ValueError(f"genotype: {len(call.args)} values; it has {', '.join(names)}")
    found = dict(zip(names, call.args, strict=False))
    for keyword in call.keywords:
        if keyword.arg is None or keyword.arg in found:
            raise ValueError(f"genotype: {keyword.arg or '**'} cannot stand there (a second time)")
        found[keyword.arg] = keyword.value
    return {name: _value(name, node, text) for name, node in found.items()}


def _value(name: str, node: ast.expr, text: str) -> Any:
    """A literal, or ``range(...)`` of literals, also within ``list(...)`` or ``tuple(...)``."""
    try:
        if isinstance(node, ast.Call) and not node.keywords:
            arguments = node.args
            if _called(node) in ("list", "tuple") and len(arguments) == 1:
                return _value(name, arguments[0], text)
            if _called(node) == "range":
                return range(*(ast.literal_eval(argument) for argument in arguments))
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        source = ast.get_source_segment(text, node) or ""
        raise ValueError(
            f"genotype: {name}: {source[:60]!r} is no list and no range of numbers"
        ) from error


def _called(call: ast.Call) -> str:
    function = call.func
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def _place(error: Exception) -> str:
    if isinstance(error, SyntaxError):
        return f"{error.msg} at line {error.lineno}, column {error.offset}"
    return str(error) or type(error).__name__
