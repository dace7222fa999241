"""What every topology space derives from its alpha."""

import json
from pathlib import Path
from typing import Any, Protocol

from rarts_mm.files import write_text

from .genotype import Genotype

PICTURES = ("cells.png", "cells.svg")


class Architecture(Protocol):
    """A derived architecture: what ``derive(alphas)`` of a topology space returns.

    :class:`~rarts_mm.cells.genotype.Genotype` is one. Another space brings its own; logging, the record
    of a search and ``tools/derive.py`` ask it for no more than this.
    """

    def text(self) -> str:
        """One line that identifies it."""

    def to_dict(self) -> dict[str, Any]:
        """The same, ready for JSON."""

    @property
    def skip_share(self) -> float:
        """Share of skip connections among all of its operations."""

    @property
    def skip_shares(self) -> dict[str, float]:
        """The same for each kind of cell."""


def as_json(architecture: Architecture) -> str:
    """The text of ``genotype.json``; :meth:`Genotype.parse` reads it."""
    lines = (f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in architecture.to_dict().items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def save_pictures(architecture: Architecture, folder: str | Path) -> list[str]:
    """Draw an architecture, as far as it is one of cells; returns the files' names."""
    if not isinstance(architecture, Genotype):
        return []
    # Here, as matplotlib takes its time to load and most runs draw nothing.
    from .drawing import save_cells

    for name in PICTURES:
        save_cells(architecture, Path(folder) / name)
    return list(PICTURES)


def save_architecture(architecture: Architecture, folder: str | Path) -> list[str]:
    """Write ``genotype.json``, ``genotype.txt`` and the pictures; returns the files' names."""
    texts = {"genotype.json": as_json(architecture), "genotype.txt": architecture.text() + "\n"}
    for name, text in texts.items():
        write_text(Path(folder) / name, text)
    return [*texts, *save_pictures(architecture, folder)]
