"""Files are written whole or not at all; what is a file of this machine."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rarts_mm.temporary import temporary_file

# What a full or failing disk answers; the system names no file then.
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def disk_error(error: BaseException | None) -> OSError | None:
    """The error of a full or failing disk that is, or is behind, another one; else None.

    Writers in C++ (torch's) turn it into an error of theirs, which says nothing of the disk.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
            return error
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Let the error of a full disk in the block name ``path``, which is being made there.

    Raises:
        OSError: with ``path`` as its file name.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if (found := disk_error(error)) is None:
            raise
        raise OSError(found.errno, os.strerror(found.errno), str(path)) from error


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block ends well.

    A process killed meanwhile leaves the old file, or none; an exception removes the temporary one, and
    the next writer of the file what a killed process has left of it.

    Raises:
        OSError: with ``path`` as its file name, also where the disk is full.
    """
    path = Path(path)
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_file(path.parent, f".{path.stem}-", path.suffix) as temporary:
            yield temporary
            # It is made with 0600; a result is as readable as any file that its user makes.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(path)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file whole."""
    with atomic_write(path) as temporary:
        temporary.write_text(text)


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: it is none; the message says where, and does not name the file.
        OSError: it is missing or cannot be read.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:  # of the decoder, or of characters that are no text
        raise ValueError(f"it is no JSON ({error})") from error
    except RecursionError as error:
        raise ValueError(
            "it is no JSON that can be read: its brackets are nested too deep"
        ) from error


def digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as hex."""
    # hashlib.file_digest is not there before Python 3.11.
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def is_remote(path: str | Path) -> bool:
    """Whether a path is a URL or a prefix that MMEngine's file clients know."""
    return "://" in str(path)
