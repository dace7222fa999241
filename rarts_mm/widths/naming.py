"""Choosing units by name: paths of submodules, names of units, patterns."""

import difflib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from torch import nn

EVERYWHERE = ""

Names = str | Iterable[str]


class Selection:
    """Which names of units are chosen: those that ``include`` has and ``exclude`` has not.

    An entry has a name if it is that name, a path that the name lies in, or a pattern (``*``, ``?``,
    ``[...]``) of either.

    Args:
        network: where the units are.
        include: entries; ``'backbone'`` alone means everywhere where there is no backbone.
        exclude: entries.

    Raises:
        ValueError: ``include`` is empty.
    """

    def __init__(self, network: nn.Module, include: Names, exclude: Names = ()) -> None:
        self.network = network
        self.include, self.exclude = _listed(include), _listed(exclude)
        if not self.include:
            raise ValueError("include names nothing to look into; '' means the whole network.")
        self._paths = set(dict(network.named_modules(remove_duplicate=False)))
        if self.include == ["backbone"] and "backbone" not in self._paths:
            self.include = [EVERYWHERE]

    def __contains__(self, name: str) -> bool:
        return any(_has(entry, name) for entry in self.include) and not any(
            _has(entry, name) for entry in self.exclude
        )

    def __str__(self) -> str:
        text = "include: " + " and ".join(entry or "everywhere" for entry in self.include)
        return text + (f"; exclude: {' and '.join(self.exclude)}" if self.exclude else "")

    def check(self, names: Sequence[str]) -> None:
        """Raise unless every entry is a submodule or has one of ``names``, those of all units."""
        for what, entries in (("include", self.include), ("exclude", self.exclude)):
            for entry in entries:
                if entry in self._paths or any(_has(entry, name) for name in names):
                    continue
                raise ValueError(
                    f"{what} names {entry!r}, but the {type(self.network).__name__} has no such "
                    f"submodule and no such unit. {nearest(entry, [*names, *self._paths - {''}])}"
                )


def nearest(name: str, names: Iterable[str]) -> str:
    """A sentence that offers the most similar names."""
    names = list(dict.fromkeys(names))
    similar = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names[:3]
    return f"Did you mean {' or '.join(map(repr, similar))}?" if similar else "It has none."


def _has(entry: str, name: str) -> bool:
    inside = (entry, f"{entry}.*")
    return entry == EVERYWHERE or any(fnmatchcase(name, pattern) for pattern in inside)


def _listed(names: Names) -> list[str]:
    return [names] if isinstance(names, str) else list(names)
