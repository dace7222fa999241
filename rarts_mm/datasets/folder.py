"""Folders of generated data sets: whole or not at all, and never over something else."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from rarts_mm.files import naming
from rarts_mm.temporary import remove_abandoned, temporary_folder

MANIFEST = "manifest.json"


def write_data_set(
    out: str | os.PathLike,
    manifest: dict,
    fill: Callable[[Path], None],
    is_complete: Callable[[Path], bool],
    force: bool = False,
) -> bool:
    """Make the folder of a data set, unless it is there.

    Args:
        out: The folder. It appears whole or not at all.
        manifest: What the data set is a function of, with its maker under ``generator``; written as
            ``manifest.json``, by which the folder is recognised.
        fill: Writes everything else into an empty folder.
        is_complete: Whether a folder with this manifest has all its files.
        force: Replace a data set of the same generator and other arguments.

    Returns:
        True if the data set was made, False if it was already there.

    Raises:
        FileExistsError: ``out`` holds something else, which is left alone.
        OSError: it cannot be written; names ``out`` where the disk is full.
    """
    out = Path(out).absolute()
    if out.parent.is_dir():
        remove_abandoned(out.parent, f".{out.name}-")
    if _holds(out, manifest, is_complete, force):
        return False
    out.parent.mkdir(parents=True, exist_ok=True)
    with naming(out), temporary_folder(out.parent, f".{out.name}-") as beside:
        new = beside / "new"
        new.mkdir()
        fill(new)
        (new / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
        # Looked at again: another process may have been faster.
        if _holds(out, manifest, is_complete, force):
            return False
        if out.exists():
            os.replace(out, beside / "old")
        os.replace(new, out)
    return True


def _holds(out: Path, manifest: dict, is_complete: Callable[[Path], bool], force: bool) -> bool:
    """Whether ``out`` is the wanted data set already; raise if it must not be written."""
    if not out.exists():
        return False
    if not out.is_dir():
        raise FileExistsError(f"{out} is a file, not a folder: give another --out.")
    if not any(out.iterdir()):
        return False
    found = _read_manifest(out, manifest["generator"])
    if found is None:
        raise FileExistsError(
            f"{out} holds something that is not a generated data set (no {MANIFEST} of this "
            "generator). It is left alone: give another --out, or empty the folder."
        )
    if found == manifest and is_complete(out):
        return True
    if force:
        return False
    if found == manifest:
        raise FileExistsError(f"The data set in {out} lacks files: --force makes it again.")
    keys = sorted(k for k in manifest.keys() | found.keys() if manifest.get(k) != found.get(k))
    differences = ", ".join(f"{k} {found.get(k)} (asked for {manifest.get(k)})" for k in keys)
    raise FileExistsError(
        f"{out} holds another generated data set: {differences}. "
        "Give another --out, or --force to replace it."
    )


def _read_manifest(out: Path, generator: str) -> dict | None:
    try:
        found = json.loads((out / MANIFEST).read_text())
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("generator") == generator else None
