"""Signals while a command line still imports its libraries, which takes seconds."""

import os
import signal
import sys
import threading
from pathlib import Path

from . import preemption

_TOOLS = Path(__file__).resolve().parents[1] / "tools"
_MODULE = ("-m", "rarts_mm")


def end_without_traceback() -> None:
    """Let SIGINT end this process as it ends any program, if it is one of this project's commands.

    Told to make room, it ends with the status of that: there is nothing to save yet. Until
    :func:`rarts_mm.apis.command_line.run` listens, Python would print where in the libraries it was. A
    program of somebody else's, which imports this package, keeps what it has.
    """
    program = getattr(sys.modules["__main__"], "__file__", None)
    # While `python -m rarts_mm` imports the package it has no file yet.
    by_module = program is None and _MODULE in zip(sys.orig_argv, sys.orig_argv[1:], strict=False)
    if not by_module and (program is None or not _is_command(Path(program).resolve())):
        return
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    for signum in (preemption.SIGNAL, signal.SIGTERM):
        if preemption.means_it(signum) and signal.getsignal(signum) is signal.SIG_DFL:
            signal.signal(signum, lambda *_: os._exit(preemption.PREEMPTED))


def _is_command(program: Path) -> bool:
    return program.parent == _TOOLS or program.name == "rarts-mm"
