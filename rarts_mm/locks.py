"""One writer at a time in a folder."""

import errno
import fcntl
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK = ".rarts_mm.lock"

# What file systems without locks answer, such as some network mounts.
_UNSUPPORTED = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
# Another lock of the same process would not be refused by the system.
_held: set[Path] = set()


class FolderInUseError(ValueError):
    """Another process, or another part of this one, is writing into the folder."""


@contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Be the only one who writes into a folder while the block runs; make the folder if need be.

    The lock is the system's, on a file in the folder, so that it ends with this process, however that
    dies, and another host on the same network file system sees it. Processes that are forked meanwhile
    (data workers) do not have it. The file names the owner for those who are refused. It goes with the
    lock, and so does a folder that was made for it and stayed empty. Where the file system has no
    locks, the file alone decides: whether its process still runs on this host; a run of another host
    counts as running.

    Raises:
        FolderInUseError: somebody else has it; nothing was touched then.
        OSError: the folder cannot be made or written into; with its name.
    """
    folder = Path(folder)
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.resolve() / LOCK
    handle, owner = None, os.getpid()
    try:
        handle = _acquire(path)
        _held.add(path)
        _sign(handle)
        yield
    finally:
        # A forked process that leaves the block has no lock to give back.
        if os.getpid() == owner:
            if handle is not None:
                _held.discard(path)
                path.unlink(missing_ok=True)
                os.close(handle)
            for each in made:
                with suppress(OSError):
                    each.rmdir()


def refuse_if_locked(folder: str | Path) -> None:
    """Raise if somebody is writing into a folder; touches nothing.

    To say so before anything else is said of the folder; only :func:`locked` keeps others out.

    Raises:
        FolderInUseError: somebody is.
    """
    path = Path(folder).resolve() / LOCK
    # Closing the file would give back this process's own lock.
    if path not in _held and path.is_file():
        with suppress(PermissionError):
            os.close(_acquire(path, create=False))


def _acquire(path: Path, create: bool = True) -> int:
    if path in _held:
        raise _in_use(path, _own())
    while True:
        try:
            handle = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o666)
        except FileNotFoundError:
            if create:
                raise
            return os.open(os.devnull, os.O_RDONLY)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            content = _read(handle)
            os.close(handle)
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise _in_use(path, content) from None
            if error.errno not in _UNSUPPORTED:
                raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
            if _runs(content):
                raise _in_use(path, content, certain=False) from None
            handle = os.open(path, os.O_RDWR)
        # Its owner may have removed the file between our opening and locking it.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        os.close(handle)


def _sign(handle: int) -> None:
    text = json.dumps(_own()) + "\n"
    os.ftruncate(handle, 0)
    os.pwrite(handle, text.encode(), 0)


def _own() -> dict:
    return dict(
        pid=os.getpid(),
        host=socket.gethostname(),
        started=_start_of(os.getpid()),
        since=time.strftime("%Y-%m-%d %H:%M:%S"),
        command=shlex.join(sys.argv),
    )


def _read(handle: int) -> dict:
    try:
        content = json.loads(os.pread(handle, 1 << 16, 0))
    except (ValueError, OSError):
        # Its owner is about to write it, or was killed just then.
        return {}
    return content if isinstance(content, dict) else {}


def _start_of(pid: int) -> int | None:
    """When a process of this host started, in ticks since the host did; None if unknown or gone."""
    try:
        # The name, in parentheses, may hold anything.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def _runs(content: dict) -> bool:
    """Whether the process that a lock names may still run."""
    pid = content.get("pid")
    if not isinstance(pid, int) or pid <= 0:
        return False
    if content.get("host") != socket.gethostname():
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    # Another process may have got its number since.
    return content.get("started") in (None, _start_of(pid))


def _in_use(path: Path, content: dict, certain: bool = True) -> FolderInUseError:
    who = "another process"
    if "pid" in content:
        who = f"process {content['pid']} on host {content.get('host')}"
        who += f" (since {content.get('since')}: {content.get('command')})"
    remedy = "wait for it, stop it, or write into another folder"
    if not certain:
        remedy += f"; if it no longer runs, remove {path}"
    return FolderInUseError(f"{path.parent} is in use by {who}; {remedy}")
