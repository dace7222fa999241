"""Told to make room for another job, before the machine is taken away.

Slurm says so by the signal that ``sbatch --signal`` names, SIGUSR1 by custom, and by SIGTERM when it
pre-empts or ends a job. What can save where it stands does so and ends with the status 75, that of a
temporary failure (``EX_TEMPFAIL`` of sysexits.h); the same command goes on from there.
"""

import contextlib
import os
import signal
from collections.abc import Iterator

PREEMPTED = os.EX_TEMPFAIL
SIGNAL = signal.SIGUSR1
_JOB = "SLURM_JOB_ID"

_heeded = 0
_asked = False


class Preempted(SystemExit):
    """The process has saved what it had to, and makes room."""

    def __init__(self) -> None:
        super().__init__(PREEMPTED)


def means_it(signum: int) -> bool:
    """Whether a signal asks to make room; of SIGTERM, that is so in a job of Slurm's."""
    return signum == SIGNAL or (signum == signal.SIGTERM and _JOB in os.environ)


@contextlib.contextmanager
def heeded() -> Iterator[None]:
    """In the block such a signal only sets :func:`is_asked`; who is in it looks there and ends."""
    global _heeded
    _heeded += 1
    try:
        yield
    finally:
        _heeded -= 1


def is_heeded() -> bool:
    """Whether somebody looks at :func:`is_asked`."""
    return _heeded > 0


def ask() -> None:
    """Set :func:`is_asked`."""
    global _asked
    _asked = True


def is_asked() -> bool:
    """Whether this process was told to make room."""
    return _asked


def forget() -> None:
    """Another command begins in this process."""
    global _asked
    _asked = False
