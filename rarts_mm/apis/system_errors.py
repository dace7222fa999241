"""Errors of the system in sentences: which file, why, and what to do."""

import errno
import io
import logging
import os
import sys
import traceback
from pathlib import Path

from rarts_mm.files import disk_error

_ELSEWHERE = "or write elsewhere (--work-dir, --out; TMPDIR for temporary files)"
_REMEDIES = {
    errno.ENOSPC: f"free some space there, {_ELSEWHERE}",
    errno.EDQUOT: f"free some of your quota, {_ELSEWHERE}",
    errno.EFBIG: f"raise the limit on the size of files (ulimit -f), {_ELSEWHERE}",
    errno.EIO: "the disk or the network drive fails: look at the system's log, use another",
    errno.EROFS: "it is mounted for reading only: write elsewhere (--work-dir, --out)",
    errno.EACCES: "change its permissions, or name another place",
    errno.EPERM: "change its permissions, or name another place",
    errno.ENOENT: "correct the path, or make the file",
    errno.ENOTDIR: "a part of this path is a file: name another place",
    errno.EISDIR: "give the path of a file",
    errno.ENAMETOOLONG: "give a shorter path",
    errno.EMFILE: "raise the limit on open files (ulimit -n), or use fewer num_workers",
    errno.ENFILE: "close other programs, or use fewer num_workers",
}


def sentence_of(error: BaseException) -> str | None:
    """The error in words for its user; None if it is none of the system's, or says of no file."""
    found = error
    if not isinstance(error, OSError):
        # torch's writer has an error of its own for a disk that is full.
        found = disk_error(error) if "inline_container" in str(error) else None
    if found is None:
        return None
    file = found.filename or _file_being_written(found) or _file_being_written(error)
    if found.errno not in _REMEDIES:
        return str(found) if found.filename is not None else None
    # A full disk is nobody's fault but the disk's, whatever the file.
    if file is None and disk_error(found) is None:
        return None
    where = f"{os.fsdecode(file)}" if file is not None else "a file"
    return f"{where}: {os.strerror(found.errno)}; {_REMEDIES[found.errno]}"


def _file_being_written(error: BaseException) -> str | None:
    """The name of the open file in the innermost frame that has one.

    The system names no file where writing to one fails, only where opening it does.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    for frame in reversed(frames):
        for value in frame.f_locals.values():
            if not isinstance(value, io.IOBase):
                continue
            name, mode = getattr(value, "name", None), str(getattr(value, "mode", ""))
            if isinstance(name, str) and set("wax+") & set(mode):
                return name
    return None


def keep_going_without_log_files() -> None:
    """Let a log file that can no longer be written be said once, instead of with every line.

    What cannot go on without its file (results, checkpoints) fails by itself.
    """
    logging.FileHandler.handleError = _say_once


def _say_once(handler: logging.FileHandler, record: logging.LogRecord) -> None:
    error = sys.exc_info()[1]
    if not isinstance(error, OSError):
        logging.Handler.handleError(handler, record)
        return
    handler.setLevel(logging.CRITICAL + 1)
    named = OSError(error.errno, os.strerror(error.errno or 0), str(Path(handler.baseFilename)))
    print(f"warning: the log ends here: {sentence_of(named) or named}", file=sys.stderr)
