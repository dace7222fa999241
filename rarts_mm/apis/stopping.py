"""Told to stop, by Ctrl-C, SIGTERM or pre-emption: at any moment, and in anybody's code."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from multiprocessing.process import BaseProcess
from types import TracebackType

from rarts_mm import preemption

# So long may tidying up take; also what a process that hangs is given.
_PATIENCE = 10.0
# A second signal is a second wish only then: `timeout` and Ctrl-C in a terminal can send it twice.
_TWICE = 1.0
_stoppable = 0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, preemption.SIGNAL)


class Stopped(SystemExit):
    """The process was told to stop; the status is 128 and the signal's number, as in shells.

    Told to make room (:mod:`rarts_mm.preemption`), it is the status of that.
    """


class Stopping:
    """What is known of the wish to stop.

    Attributes:
        signum: the signal, or None.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._since = 0.0
        self._lost = False
        self._process = os.getpid()

    @property
    def status(self) -> int:
        return _status_of(self.signum)

    def handle(self, signum: int, _) -> None:
        """Unwind the stack, once, so that what a command started is tidied up."""
        if os.getpid() != self._process:
            raise Stopped(128 + signum)
        if preemption.means_it(signum) and preemption.is_heeded():
            preemption.ask()
            return
        if self.signum is None or self._lost:
            self.signum, self._since, self._lost = signum, time.monotonic(), False
            raise Stopped(self.status)
        if time.monotonic() - self._since > _TWICE:
            os._exit(self.status)

    def send_again(self, unraisable) -> None:
        """``sys.unraisablehook``: raised in a destructor or a callback, the wish would be lost."""
        if self.signum is None or not issubclass(unraisable.exc_type, Stopped):
            sys.__unraisablehook__(unraisable)
            return
        self._lost = True
        # Not from here, where it would be lost, too.
        thread = threading.main_thread().ident
        threading.Timer(0.01, signal.pthread_kill, (thread, self.signum)).start()

    def watch(self, descriptor: int) -> None:
        """End the process if it does not end itself: what is in C code may never see the handler."""
        while (signum := os.read(descriptor, 1)[0]) not in _SIGNALS or _is_left_to_others(signum):
            if signum == 0:
                return
        time.sleep(_PATIENCE)
        os._exit(_status_of(signum))


def _status_of(signum: int) -> int:
    return preemption.PREEMPTED if preemption.means_it(signum) else 128 + signum


def _is_left_to_others(signum: int) -> bool:
    return preemption.means_it(signum) and preemption.is_heeded()


@contextlib.contextmanager
def stoppable() -> Iterator[Stopping]:
    """Let SIGINT, SIGTERM and SIGUSR1 end the block by :class:`Stopped`.

    The library's code in which it is raised may turn it into another exception (a bare ``except``) or
    swallow it: whatever leaves the block, ``signum`` says whether the process shall stop. A process
    that has not ended ten seconds later is ended, and so it is by a second signal.
    """
    global _stoppable
    preemption.forget()
    stopping = Stopping()
    before = multiprocessing.active_children()
    read, write = os.pipe()
    os.set_blocking(write, False)
    handlers = {signum: signal.signal(signum, stopping.handle) for signum in _SIGNALS}
    hook, sys.unraisablehook = sys.unraisablehook, stopping.send_again
    wakeup = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    watch = threading.Thread(target=stopping.watch, args=(read,), name="stoppable", daemon=True)
    watch.start()
    _stoppable += 1
    try:
        yield stopping
    finally:
        _stoppable -= 1
        _end_the_deaf(before)
        signal.set_wakeup_fd(wakeup)
        sys.unraisablehook = hook
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
        if stopping.signum is None:
            os.write(write, b"\0")
            watch.join()
            os.close(read)
            os.close(write)


def _in_child() -> None:
    """A forked process, such as a data worker, starts: its signals are not its parent's."""
    signal.set_wakeup_fd(-1)
    # Slurm and torchrun tell all at once. Workers go on: the process that they work for would take their
    # end for an accident, and they end with it. Not by a handler, as torch gives its workers one of its own.
    if _stoppable:
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, preemption.SIGNAL))
        sys.excepthook = _unless_left


def _unless_left(kind: type[BaseException], error: BaseException, trace: TracebackType) -> None:
    """Say nothing of a connection that the process worked for has cut, as it ended: multiprocessing's
    thread that hands tensors over would."""
    if not issubclass(kind, ConnectionError):
        sys.__excepthook__(kind, error, trace)


def _end_the_deaf(before: Iterable[BaseProcess]) -> None:
    """End the workers that the interpreter would ask by SIGTERM at its end, and wait for."""
    workers = [each for each in multiprocessing.active_children() if each not in before]
    if workers:
        # Torch's own would report it as an accident.
        handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.join()
        # None stands for one that is not Python's, and cannot be put back.
        if handler is not None:
            signal.signal(signal.SIGCHLD, handler)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
