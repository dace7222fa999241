"""Temporary files and folders beside their place, and those that a killed process left there."""

import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# What a file system without locks answers.
_UNSUPPORTED = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
# What ``tempfile`` puts between prefix and suffix.
_RANDOM = "[a-z0-9_]{8}"


@contextmanager
def temporary_file(folder: str | Path, prefix: str, suffix: str = "") -> Iterator[Path]:
    """Yield an empty file of a new name; it is gone afterwards unless it was renamed.

    Earlier ones of this kind whose processes are dead are removed first.
    """
    remove_abandoned(folder, prefix, suffix)
    handle, path = _claimed(lambda: tempfile.mkstemp(suffix, prefix, folder))
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


@contextmanager
def temporary_folder(folder: str | Path, prefix: str) -> Iterator[Path]:
    """As :func:`temporary_file`, for an empty folder."""

    def make() -> tuple[int, str]:
        name = tempfile.mkdtemp(prefix=prefix, dir=folder)
        return os.open(name, os.O_RDONLY), name

    remove_abandoned(folder, prefix)
    handle, path = _claimed(make)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(handle)


def remove_abandoned(folder: str | Path, prefix: str, suffix: str = "") -> list[Path]:
    """Remove temporary files and folders of a kind whose processes are dead; return their paths.

    A process holds a lock on its own as long as it lives. Where a file system has no locks, nothing is
    certain and everything stays.
    """
    kind = re.compile(re.escape(prefix) + _RANDOM + re.escape(suffix))
    with os.scandir(folder) as entries:
        found = [Path(entry) for entry in entries if kind.fullmatch(entry.name)]
    return [path for path in found if remove_if_abandoned(path)]


def remove_if_abandoned(path: Path) -> bool:
    """Remove a temporary file or folder whose process is dead; return whether it was."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _claimed(make: Callable[[], tuple[int, str]]) -> tuple[int, Path]:
    """Make a file or folder that nobody takes for abandoned; return its lock's handle, and it.

    This lock, unlike that of a folder in use, outlives others' opening and closing of the file here.
    """
    while True:
        handle, name = make()
        path = Path(name)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                return handle, path
        # Another process may have found it before it was locked.
        else:
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), path.stat()):
                    return handle, path
        os.close(handle)
