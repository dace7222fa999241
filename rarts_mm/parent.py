"""Processes that end with the process that started them, however that one ended.

A killed process cannot end its children, so the children look after it. They watch the number of
their parent: pipes to it stay open in every brother that was forked later, and the kernel's own
parent-death signal comes when the *thread* that forked ends, which need not be the process' end.

This module is imported before anything that takes time, since who the parent was is known for sure
only at the start.
"""

import os
import signal
import threading
import time

# A parent's death is noticed within so many seconds.
_INTERVAL = 0.5
# Says, to every process below, whose children shall watch it.
_VARIABLE = "RARTS_MM_ENDS_CHILDREN"

_parent = os.getppid()
_self = os.getpid()
_watching = False
_children_too = False


def die_with_parent(parent: int | None = None) -> None:
    """End this process, by SIGKILL, within a second after its parent has ended.

    That holds for this process only; see :func:`children_die_too`.

    Args:
        parent: the parent's process id, for a caller who knows it; defaults to the parent at the time
            when this module was imported, or when this process was forked. If the parent has ended
            since, so does this process.
    """
    global _watching
    if _watching:
        return
    _watching = True
    parent = _parent if parent is None else parent
    if os.getppid() != parent:
        _end()
    threading.Thread(target=_watch, args=(parent,), name="die_with_parent", daemon=True).start()


def children_die_too() -> None:
    """From now on what this process forks, or starts with Python and this package, dies with it.

    That are data workers and pools, forked or spawned, and their own children. (The children of
    multiprocessing's forkserver have another parent; nothing here uses it.)
    """
    global _children_too
    _children_too = True
    os.environ[_VARIABLE] = str(os.getpid())


def _watch(parent: int) -> None:
    # Signals are for the main thread: one that it blocks would be delivered here.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while os.getppid() == parent:
        time.sleep(_INTERVAL)
    _end()


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _after_fork() -> None:
    """Threads are not inherited, so the child watches anew."""
    global _parent, _self, _watching
    _parent, _self = _self, os.getpid()
    _watching = False
    if _children_too:
        children_die_too()
        die_with_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
# A new interpreter, such as multiprocessing spawns.
if os.environ.get(_VARIABLE) == str(_parent):
    children_die_too()
    die_with_parent()
