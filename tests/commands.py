"""Command lines in processes of their own, to be told to stop or killed, and what is left of them.

They are forked from a process that has imported everything, since the seconds of an import would be most of
such a test: from the tests' own, with whatever a test has put in the place of something, or from one that
has done nothing else. (Once a process has trained with several of autograd's threads, none that is forked
from it can.)
"""

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import torch

from rarts_mm.apis import command_line
from tests.conftest import ROOT, forget_runs, load_tool

__all__ = ["ROOT", "Command", "members", "nothing_left"]

_FORK = multiprocessing.get_context("fork")
_FRESH = multiprocessing.get_context("forkserver")
_FRESH.set_forkserver_preload(["tests.imported"])


class Command:
    """A tool's command line, running in a session of its own.

    Args:
        tool: name of the file in ``tools/``.
        arguments: of the command line.
        log: file that gets its output.
        patched: whether what a test has put in the place of something holds in it.
    """

    def __init__(self, tool: str, *arguments: object, log: Path, patched: bool = False) -> None:
        self.log = log
        self.started = time.monotonic()
        arguments = [str(a) for a in arguments]
        # The environment and the folder of this moment.
        place = dict(os.environ), Path.cwd()
        context = _FORK if patched else _FRESH
        self.process = context.Process(
            target=_run, args=(tool, arguments, log, *place), daemon=False
        )
        self.process.start()
        self.session = self.process.pid

    def wait(self, seconds: float = 300) -> int:
        """Wait for its end; return the exit status, negative for a signal."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, "it does not end"
        return self.process.exitcode

    def signal_after(self, seconds: float, signum: int) -> None:
        """Send a signal to the command's own process, so many seconds after its start."""
        self.process.join(max(0.0, self.started + seconds - time.monotonic()))
        if self.process.exitcode is None:
            os.kill(self.process.pid, signum)

    @property
    def text(self) -> str:
        return self.log.read_text() if self.log.is_file() else ""

    def nothing_left(self, seconds: float = 10) -> None:
        """Wait until no process of the command's session is left; fail if that takes too long."""
        nothing_left(self.session, seconds)


def _run(tool: str, arguments: list[str], log: Path, environment: dict, folder: Path) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    # It was told how it was made itself.
    multiprocessing.set_start_method("fork", force=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    # Not pytest's objects, which keep what is written.
    for name, number in (("stdout", 1), ("stderr", 2)):
        setattr(sys, name, os.fdopen(number, "w", buffering=1, closefd=False))
    # As in a shell; and threads of torch do not survive a fork.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    torch.set_num_threads(1)
    forget_runs()
    module = load_tool(tool)
    command_line.run(lambda: module.main(arguments))


def members(session: int) -> dict[int, str]:
    """Processes of a session that run, with their command lines."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its_session = stat.read_text().rpartition(") ")[2].split()[:4]
            if int(its_session) == session and state not in "ZX":
                line = (stat.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                found[int(stat.parent.name)] = line
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def nothing_left(session: int, seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while left := members(session):
        if time.monotonic() > until:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            raise AssertionError(f"still there after {seconds} s: {left}")
        time.sleep(0.05)
