"""Another process that is in the middle of something, until it is killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import ROOT


@contextmanager
def another_process(imports: str, context: str) -> Iterator[subprocess.Popen]:
    """Run a process that enters a context manager and stays there; it is killed at the end.

    Args:
        imports: statement that the expression needs.
        context: expression of the context manager.
    """
    code = (
        f"import sys, time; {imports}\nwith {context}:\n print('in', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
    )
    try:
        assert process.stdout.readline() == "in\n"
        yield process
    finally:
        kill(process)
        process.stdout.close()


def kill(process: subprocess.Popen) -> None:
    """As the system does that runs out of memory."""
    process.send_signal(signal.SIGKILL)
    process.wait()


def locking(folder: Path):
    """A process that has the lock of a folder."""
    # Without the package's own imports, which take seconds.
    code = "import importlib.util as u; s = u.spec_from_file_location('locks', "
    code += f"{str(ROOT / 'rarts_mm' / 'locks.py')!r}); m = u.module_from_spec(s); "
    return another_process(code + "s.loader.exec_module(m)", f"m.locked({str(folder)!r})")
