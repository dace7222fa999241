"""Every setting of a config with its full name, and the patterns that name them in tables."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

ANY_DEPTH = "**"


@dataclass(frozen=True)
class Setting:
    """One key of a config.

    Attributes:
        name: as it is given to ``--cfg-options``, such as ``param_scheduler.0.T_max``.
        path: its keys; the numbers of entries of lists are left out.
        value: as it is in the config.
    """

    name: str
    path: tuple[str, ...]
    value: Any


def settings(cfg: Mapping, name: str = "", path: tuple[str, ...] = ()) -> Iterator[Setting]:
    """Every key below, those that hold others before these."""
    for key, value in cfg.items():
        found = Setting(f"{name}{key}", (*path, str(key)), value)
        yield found
        yield from _inside(found.name, found.path, value)


def _inside(name: str, path: tuple[str, ...], value: Any) -> Iterator[Setting]:
    if isinstance(value, Mapping):
        yield from settings(value, f"{name}.", path)
    elif isinstance(value, list | tuple):
        for number, each in enumerate(value):
            if isinstance(each, Mapping | list | tuple):
                yield from _inside(f"{name}.{number}", path, each)


def dicts(cfg: Mapping) -> Iterator[Setting]:
    """Every dict below, also those in lists."""
    for setting in settings(cfg):
        if isinstance(setting.value, Mapping):
            yield setting
        elif isinstance(setting.value, list | tuple):
            for number, each in enumerate(setting.value):
                if isinstance(each, Mapping):
                    yield Setting(f"{setting.name}.{number}", setting.path, each)


def matches(pattern: str, path: Sequence[str]) -> bool:
    """Whether a pattern names a setting.

    Its parts are keys with ``*`` and ``?`` as in file names; ``**`` stands for any number of keys.
    """
    return _match(pattern.split("."), list(path))


def _match(pattern: list[str], path: list[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == ANY_DEPTH:
        return any(_match(pattern[1:], path[i:]) for i in range(len(path) + 1))
    return bool(path) and fnmatchcase(path[0], pattern[0]) and _match(pattern[1:], path[1:])
