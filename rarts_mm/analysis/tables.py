"""Tables of results: on the screen, as Markdown, as JSON."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rarts_mm.files import write_text

Format = Callable[[Any], str] | str | None

# Unit of a column -> how a value, given in the unit on the right, is written.
UNITS: dict[str, Callable[[Any], str]] = {
    "%": lambda value: f"{100 * value:.1f} %",  # a share
    "points": lambda value: f"{value:.2f}",  # percentage points already
    "ms": lambda value: f"{value:.2f} ms",  # milliseconds
    "": lambda value: f"{value:,}",  # a plain number
}


# Written alike in the whole column, in what suits the largest.
COUNT = "n"


def count_format(largest: float) -> Callable[[float], str]:
    """How counts up to ``largest`` are written: ``85.63 M``, ``0.32 G``, ``18.72 K``, ``416``."""
    for least, factor, letter in ((1e8, 1e9, "G"), (1e5, 1e6, "M"), (1e3, 1e3, "K")):
        if largest >= least:
            return lambda value: f"{value / factor:,.2f} {letter}"
    return "{:,}".format


@dataclass
class ResultsTable:
    """Rows of values and how to write them.

    Args:
        columns: Name of a column -> its format: a function that makes a string of a value; or a
            unit, one of ``'n'`` (values are plain counts, written in K, M or G), ``'%'`` (values are
            shares of 1), ``'points'``, ``'ms'`` (values are milliseconds) and ``''`` (a number with its
            thousands apart); or None for text. Columns without a format are aligned to the left.
        rows: Each a mapping with some of the columns as keys, or a sequence with a value for each
            of them. None is written as a dash.
        title: Above the table.
        notes: Sentences below the table.

    Raises:
        ValueError: An unknown unit, or a row that does not fit the columns.
    """

    columns: Mapping[str, Format]
    rows: Sequence[Mapping[str, Any] | Sequence[Any]] = field(default_factory=list)
    title: str = ""
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        self.columns = dict(self.columns)
        for name, spec in self.columns.items():
            if isinstance(spec, str) and spec not in {*UNITS, COUNT}:
                raise ValueError(
                    f"Column {name!r} has the unit {spec!r}; known are "
                    f"{', '.join(map(repr, [COUNT, *UNITS]))}. Give a function for any other format."
                )
        self.notes = [self.notes] if isinstance(self.notes, str) else list(self.notes)
        self.rows = [self._row(row) for row in self.rows]

    def cells(self) -> list[list[str]]:
        """The rows, formatted."""
        formats = {name: self._format(name, spec) for name, spec in self.columns.items()}
        return [
            ["–" if row[name] is None else write(row[name]) for name, write in formats.items()]
            for row in self.rows
        ]

    def _format(self, name: str, spec: Format) -> Callable[[Any], str]:
        if spec is None:
            return str
        if spec == COUNT:
            return count_format(max((row[name] or 0 for row in self.rows), default=0))
        return UNITS[spec] if isinstance(spec, str) else spec

    def print(self, console: Console | None = None) -> None:
        """Write the table to the screen, or to ``console``."""
        # Rich takes 80 columns where there is no terminal; a log file is wide enough for the table.
        console = console or Console(width=None if sys.stdout.isatty() else 120)
        # Text, not str: rich would read [brackets] in a name as markup.
        table = Table(
            title=Text(self.title) if self.title else None,
            title_justify="left",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            show_edge=False,
        )
        for name, spec in self.columns.items():
            text = spec is None
            table.add_column(
                Text(name), justify="left" if text else "right", overflow="fold", no_wrap=text
            )
        for row in self.cells():
            table.add_row(*map(Text, row))
        console.print(table)
        for note in self.notes:
            console.print(Text(note))

    def markdown(self) -> str:
        """The table in GitHub's Markdown, with title and notes."""
        lines = [f"**{self.title}**", ""] if self.title else []
        lines.append(_markdown_row(self.columns))
        lines.append(
            "|" + "|".join("---" if f is None else "---:" for f in self.columns.values()) + "|"
        )
        lines += [_markdown_row(row) for row in self.cells()]
        for note in self.notes:
            lines += ["", note]
        return "\n".join(lines) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Title, column names, rows with their unformatted values, and notes: ready for JSON."""
        return {
            "title": self.title,
            "columns": list(self.columns),
            "rows": [dict(row) for row in self.rows],
            "notes": list(self.notes),
        }

    def write(self, path: str | Path) -> tuple[Path, Path]:
        """Write ``<path>.json`` and ``<path>.md``, each whole or not at all.

        Args:
            path: Without suffix; its folder is made when it is not there.

        Returns:
            The paths of both files.
        """
        # Not with_suffix: "pruned_37.5" has no suffix to replace.
        data, text = Path(f"{path}.json"), Path(f"{path}.md")
        # Before anything is written: values that are not JSON raise here.
        content = json.dumps(self.to_dict(), indent=1) + "\n"
        write_text(data, content)
        write_text(text, self.markdown())
        return data, text

    def _row(self, row: Mapping[str, Any] | Sequence[Any]) -> dict[str, Any]:
        if isinstance(row, Mapping):
            if unknown := [key for key in row if key not in self.columns]:
                raise ValueError(f"A row has {unknown}, but the columns are {list(self.columns)}.")
            return {name: row.get(name) for name in self.columns}
        if len(row) != len(self.columns):
            raise ValueError(
                f"A row has {len(row)} values, but there are {len(self.columns)} columns: "
                f"{list(row)} for {list(self.columns)}."
            )
        return dict(zip(self.columns, row, strict=True))


def _markdown_row(cells) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
