"""Runs a function in a fresh interpreter, and watches it."""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

from rarts_mm import preemption
from rarts_mm.parent import children_die_too

from ..errors import UsageError
from .errors import StageError
from .screen import Screen, clock

# A fresh interpreter, not a fork: whatever threads this process has had (OpenMP's, CUDA's), a forked
# child would wait for them forever.
_START = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from rarts_mm.apis.stages.child import main; main()"
)
# Seconds: between two looks at a stage; that it gets to end by itself when it is told to; without a
# report after which the screen says so (doubled each time).
_TICK, _GRACE, _SILENCE = 0.2, 10.0, 120.0


def run_in_process(
    name: str, function: Callable[..., dict], args: tuple, log: Path, screen: Screen
) -> dict:
    """Call a module-level function in a process of its own and return its result.

    The process ends with this one, however this one ends. What it prints goes to ``log``.

    Raises:
        Preempted: this process was told to make room; the stage has saved where it is, if it trains.
        UsageError: what the function raised for bad input.
        StageError: another error in it, or its process ended without a result.
    """
    # Between two stages nobody else looks.
    if preemption.is_asked():
        raise preemption.Preempted
    log.parent.mkdir(parents=True, exist_ok=True)
    receive, send = Pipe(duplex=False)
    with open(log, "ab") as output, receive:
        output.write(f"$ {screen.command}\n".encode())
        output.flush()
        # From its first import on, the stage looks after its parent.
        children_die_too()
        # Once the stage holds the other end alone, its end is seen here.
        with send:
            send_to = send.fileno()
            process = subprocess.Popen(
                [sys.executable, "-c", _START],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[send_to],
                # Ctrl-C is this process's affair, which ends the stage in an orderly way.
                start_new_session=True,
            )
        finished = False
        try:
            _order(process, send_to, pickle.dumps((function, args)))
            with preemption.heeded():
                kind, value, trace = _follow(process, receive, screen)
            finished = True
        finally:
            _end(process, ask=not finished)
    if kind == "result":
        return value
    if kind == "usage":
        raise UsageError(value)
    if kind == "error":
        if trace:
            screen.say(trace.rstrip())
        raise StageError(f"stage {name!r} failed: {value}{'' if trace else '.'} Its log: {log}")
    if preemption.is_asked():
        raise preemption.Preempted
    raise StageError(
        f"stage {name!r} ended {_how(process.returncode)}, without a result; its log: {log}. Run the "
        "same command again to go on from here"
    )


def _order(process: subprocess.Popen, handle: int, order: bytes) -> None:
    """Tell the process what to do and where to answer."""
    # One that has ended already is noticed by who follows it.
    with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
        pickle.dump(sys.path, pipe)
        pickle.dump((handle, os.getpid(), order), pipe)


def _follow(
    process: subprocess.Popen, receive: Connection, screen: Screen
) -> tuple[str, object, str]:
    """Show the stage's reports until it has a result, or has ended without one."""
    heard, patience, answers, told = time.monotonic(), _SILENCE, False, False
    while True:
        # It is not in this process's group; once it has been heard of, it knows what to do.
        if preemption.is_asked() and answers and not told:
            process.send_signal(preemption.SIGNAL)
            told = True
        # Asked before the pipe is: what the process said last is still read.
        ended = process.poll() is not None
        while receive.poll(0):
            try:
                kind, value, trace = receive.recv()
            except EOFError:
                ended = True
                break
            if kind != "report":
                return kind, value, trace
            heard, patience, answers = time.monotonic(), _SILENCE, True
            screen.show(value)
        if ended:
            return "none", None, ""
        if (silent := time.monotonic() - heard) > patience:
            patience *= 2
            screen.say(_silence(process, screen, silent, answers))
        screen.refresh()
        receive.poll(_TICK)


def _silence(process: subprocess.Popen, screen: Screen, seconds: float, answers: bool) -> str:
    text = f"[{screen.name}] nothing new for {clock(seconds)} (process {process.pid}, {_cpu(process.pid)})"
    if answers:
        # Its handler writes where every thread stands.
        process.send_signal(signal.SIGUSR2)
        text += f"; where it stands is at the end of {screen.log}"
    return f"{text}. Ctrl-C stops it, and the same command goes on from there."


def _cpu(pid: int) -> str:
    """How long a process has computed; nothing else tells waiting from working."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "its CPU time is not known here"
    return f"{clock(sum(map(int, fields[11:13])) / os.sysconf('SC_CLK_TCK'))} of CPU time"


def _end(process: subprocess.Popen, ask: bool) -> None:
    """See that a stage and all that it has started end; one that does not is killed.

    Args:
        ask: whether it has still to be told.
    """
    if ask:
        process.terminate()
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    # What is left of its session, such as the data workers of a stage that was killed.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _how(code: int | None) -> str:
    if code is None or code >= 0:
        return f"with exit code {code}"
    reason = signal.strsignal(-code) or "unknown"
    memory = "; was there not enough memory?" if -code == signal.SIGKILL else ""
    return f"by signal {-code} ({reason}{memory})"
