"""What the stages of the tests do, in interpreters of their own."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

from rarts_mm.apis.errors import UsageError
from rarts_mm.progress import report


def add(a: float, b: float) -> dict:
    print("adding, at length")
    report(done=1, of=2, text="adding")
    return dict(sum=a + b, summary="added")


def refuse() -> dict:
    raise UsageError("no such thing as 3 apples; give 2")


def fail() -> dict:
    return dict(value=1 / int("0"))


def die() -> dict:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def parallel_mean(threads: int) -> dict:
    """What hung: a mean that OpenMP's threads share."""
    import torch

    torch.set_num_threads(threads)
    return dict(mean=float(torch.ones(1 << 20).mean()), threads=torch.get_num_threads())


def stay(marker: Path, deaf: bool) -> dict:
    """Stay for a long time, with a worker as a data loader has it; deaf to polite requests, perhaps."""
    if deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    worker = multiprocessing.get_context("fork").Process(
        target=time.sleep, args=(300,), daemon=True
    )
    worker.start()
    marker.write_text(f"{os.getpid()} {worker.pid}")
    time.sleep(300)
    return {}


def nap(log: Path) -> dict:
    """Say nothing until somebody has asked where this stands: the stack is in the log then."""
    deadline = time.monotonic() + 60
    while "in nap" not in log.read_text():
        if time.monotonic() > deadline:
            raise RuntimeError("nobody asked")
        time.sleep(0.1)
    return {}


def trust() -> dict:
    from rarts_mm.checkpoint_reader import is_trusting

    return dict(trusted=is_trusting())
