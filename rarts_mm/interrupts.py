"""Ctrl-C while a command line still imports its libraries, which takes seconds."""

import signal
import sys
import threading
from pathlib import Path

_TOOLS = Path(__file__).resolve().parents[1] / "tools"


def end_without_traceback() -> None:
    """Let SIGINT end this process as it ends any program, if it is one of this project's tools.

    Until :func:`rarts_mm.apis.command_line.run` listens, Python would print where in the libraries it
    was. A program of somebody else's, which imports this package, keeps what it has.
    """
    program = getattr(sys.modules["__main__"], "__file__", None)
    if program is None or Path(program).resolve().parent != _TOOLS:
        return
    untouched = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if untouched and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_DFL)
