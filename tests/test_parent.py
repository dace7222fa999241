"""Processes end with the one that started them, whichever way that was, and not before."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import rarts_mm

# The module needs nothing of the package, whose import takes seconds.
PROGRAM = """
import multiprocessing, os, sys, threading, time
import parent

def tell():
    with open("pids", "a") as file:
        file.write(f"{os.getpid()}\\n")

def child(method, more):
    tell()
    if more:
        start(method, 0)
    time.sleep(60)

def start(method, more):
    multiprocessing.get_context(method).Process(target=child, args=(method, more)).start()

if __name__ == "__main__":
    parent.children_die_too()
    tell()
    method, where = sys.argv[1:]
    if where == "thread":
        thread = threading.Thread(target=start, args=(method, 1))
        thread.start()
        thread.join()
    else:
        start(method, 1)
    time.sleep(60)
"""
# Asks only when it is told to, as after imports that take their time.
LONE = """
import os, time
import parent
open("imported", "w").close()
while not os.path.exists("ask"):
    time.sleep(0.05)
parent.die_with_parent()
print("lives", flush=True)
time.sleep(60)
"""
OUTER = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "inner.py"])
open("pids", "w").write(str(child.pid))
time.sleep(60)
"""


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(condition, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


@pytest.fixture
def started(tmp_path):
    """Starts a program beside the module; whatever it leaves is killed in the end."""
    shutil.copy(rarts_mm.parent.__file__, tmp_path)
    (tmp_path / "pids").touch()
    processes = []

    def start(program: str, *arguments: str, **kwargs) -> subprocess.Popen:
        (tmp_path / "program.py").write_text(program)
        command = [sys.executable, "program.py", *arguments]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RARTS_MM_")}
        processes.append(subprocess.Popen(command, cwd=tmp_path, env=environment, **kwargs))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("where", ["main", "thread"])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_and_theirs_die_with_a_killed_process(started, tmp_path, method, where):
    """Not when the thread that started them ends, as the kernel's own signal would have it."""
    process = started(PROGRAM, method, where)
    until(lambda: len((tmp_path / "pids").read_text().split()) == 3)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    time.sleep(1.2)
    assert all(map(alive, pids))
    process.kill()
    process.wait()
    until(lambda: not any(map(alive, pids)))


@pytest.mark.parametrize("before", [True, False], ids=["before it asks", "afterwards"])
def test_a_process_dies_with_the_one_that_started_it(started, tmp_path, before):
    """Also if that was killed before the process came to ask for it, during its imports."""
    (tmp_path / "inner.py").write_text(LONE)
    outer = started(OUTER, stdout=subprocess.PIPE, text=True)
    until((tmp_path / "imported").exists)
    if not before:
        (tmp_path / "ask").touch()
        assert outer.stdout.readline() == "lives\n"
    outer.kill()
    outer.wait()
    (tmp_path / "ask").touch()
    # The pipe is closed when nobody holds it any more.
    assert outer.communicate(timeout=10)[0] == ""
    until(lambda: not alive(int((tmp_path / "pids").read_text())))
