"""Ctrl-C before a command line is ready: no traceback, and the status of any interrupted program."""

import functools
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize(
    "seconds",
    [1.5, *(pytest.param(s, marks=pytest.mark.slow) for s in (0.7, 2.5, 4.0))],
)
def test_ctrl_c_while_it_imports(seconds):
    process = subprocess.Popen(
        [sys.executable, ROOT / "tools/train.py", "none.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # As in a terminal: what runs in the background may ignore it.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in out + err
    # Ended by it, or, on a fast machine, by what was wrong with the command.
    assert process.returncode in (-signal.SIGINT, 128 + signal.SIGINT, 2)


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGTERM"])
def test_told_to_make_room_while_it_imports(name):
    process = subprocess.Popen(
        [sys.executable, ROOT / "tools/train.py", "none.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ, SLURM_JOB_ID="17"),
    )
    time.sleep(2)
    process.send_signal(signal.Signals[name])
    out, err = process.communicate(timeout=60)
    assert process.returncode == 75, out + err


@pytest.mark.slow
def test_another_program_keeps_its_own_way():
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); import rarts_mm; "
        "print(signal.getsignal(signal.SIGINT).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "default_int_handler\n"
