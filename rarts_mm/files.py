"""Files are written whole or not at all; what is a file of this machine."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rarts_mm.temporary import temporary_file

# What a full or failing disk answers; the system names no file then.
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block ends well.

    A process killed meanwhile leaves the old file, or none; an exception removes the temporary one, and
    the next writer of the file what a killed process has left of it.

    Raises:
        OSError: with ``path`` as its file name, also where the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary_file(path.parent, f".{path.stem}-", path.suffix) as temporary:
            yield temporary
            # It is made with 0600; a result is as readable as any file that its user makes.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(path)
    except OSError as error:
        if error.filename is None and error.errno in _DISK_ERRORS:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write a text file whole."""
    with written_whole(path) as temporary:
        temporary.write_text(text)


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
