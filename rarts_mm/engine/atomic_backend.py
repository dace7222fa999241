"""Checkpoints are written whole or not at all."""

import os
import re
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from rarts_mm.files import atomic_write
from rarts_mm.temporary import remove_if_abandoned

NAME = "rarts_mm.atomic"
# What ``atomic_write`` calls the file that it is writing.
_UNFINISHED = re.compile(r"\.(epoch|iter|best)_.*-[a-z0-9_]{8}\.pth")


@register_backend(NAME)
class AtomicBackend(LocalBackend):
    """MMEngine's local files, written beside their place, flushed to the disk and renamed.

    A process killed at any moment leaves the old file, or none, under the name.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        with atomic_write(filepath) as temporary, open(temporary, "wb") as file:
            file.write(obj)
            file.flush()
            # Before the rename: after a power cut the name must not point at missing blocks.
            os.fsync(file.fileno())


def remove_unfinished(folder: str | Path) -> list[Path]:
    """Delete what a killed run was writing; return the deleted files."""
    found = [path for path in Path(folder).glob(".*.pth") if _UNFINISHED.fullmatch(path.name)]
    return [path for path in found if remove_if_abandoned(path)]
