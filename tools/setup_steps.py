"""Steps that are done once: the mechanism behind ``setup_venv.py`` (standard library only).

A step is done when its stamp, a small file in the state folder, holds the digest of the step's
inputs and of all steps before it. Stamps are written after a step has succeeded, so an interrupted
or failed run goes on at the step where it stopped; a step that is done again takes the stamps of
all later ones away first. Every command's output goes to ``STEP.log`` beside the stamps.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

HEARTBEAT_S = 15.0  # between two lines of progress where the output is not a terminal
GRACE_S = 10.0  # for an interrupted command to clean up after itself
LOG_LINES_SHOWN = 15


class StepFailed(Exception):
    """A step could not be done. ``advice`` says what the user can do about it."""

    def __init__(self, problem: str, advice: str, command: str = "", log: Path | None = None):
        super().__init__(problem)
        self.problem, self.advice, self.command, self.log = problem, advice, command, log


@dataclass(frozen=True)
class Step:
    """One step of a set-up.

    Args:
        name: Short name; also names the stamp and the log.
        says: What it does, in words, shown when it begins.
        inputs: Text on which the step's result depends.
        run: Does it, with the commands' runner that it is given. May return a remark for the user.
    """

    name: str
    says: str
    inputs: Sequence[str]
    run: Callable[["Runner"], str | None]


@dataclass(frozen=True)
class Hint:
    """What to do (``advice``) when a failed command's output matches ``pattern``.

    Of several hints that match, the first counts: causes stand before their consequences.
    """

    pattern: str
    advice: str


@dataclass
class Runner:
    """Runs the commands of one step: output to its log, progress to ``out``, interruptible."""

    label: str
    log: Path
    env: Mapping[str, str]
    cwd: Path
    out: TextIO
    hints: Sequence[Hint] = ()
    inherit: Sequence[int] = ()
    started: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        print(f"      {text}", file=self.out, flush=True)

    def succeeds(self, *command: object, env: Mapping[str, str] | None = None) -> bool:
        """Runs a command whose failure is an answer, not an error."""
        return self._execute([str(part) for part in command], env or {}) == 0

    def output(self, *command: object, env: Mapping[str, str] | None = None) -> str:
        """Runs a command and returns what it printed last (its log lines stay in the log)."""
        before = self.log.stat().st_size if self.log.exists() else 0
        self.run(*command, env=env)
        with self.log.open("rb") as file:
            file.seek(before)
            lines = file.read().decode(errors="replace").splitlines()
        printed = [line for line in lines if line.strip() and not line.startswith("$ ")]
        return printed[-1] if printed else ""

    def run(self, *command: object, env: Mapping[str, str] | None = None, advice: str = "") -> None:
        """Runs a command that must succeed.

        Args:
            env: Variables added to the step's environment.
            advice: What to do about a failure that none of the hints recognises.

        Raises:
            StepFailed: With the command, the log and the advice.
        """
        words = [str(part) for part in command]
        status = self._execute(words, env or {})
        if status == 0:
            return
        text = tail(self.log, 200_000)
        known = next((hint.advice for hint in self.hints if re.search(hint.pattern, text)), "")
        how = f"exit status {status}" if status > 0 else f"signal {-status}"
        raise StepFailed(
            f"a command failed ({how})",
            known or advice or "Read the log, mend what it names, and repeat.",
            " ".join(shlex.quote(word) for word in words),
            self.log,
        )

    def _execute(self, command: list[str], env: Mapping[str, str]) -> int:
        with self.log.open("ab") as log:
            words = " ".join(shlex.quote(word) for word in command).replace("\n", "; ")
            log.write(f"\n$ {words}\n".encode())
            log.flush()
            # A session of its own, so that an interruption reaches the whole tree of compilers
            # exactly once, through `stop`.
            child = subprocess.Popen(
                command,
                env={**self.env, **env},
                cwd=self.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=tuple(self.inherit),
            )
            try:
                return self._wait(child)
            finally:
                if child.poll() is None:
                    stop(child)

    def _wait(self, child: "subprocess.Popen[bytes]") -> int:
        terminal = self.out.isatty()
        last = time.monotonic()
        try:
            while True:
                try:
                    return child.wait(timeout=0.5)
                except subprocess.TimeoutExpired:
                    pass
                now = time.monotonic()
                text = f"{self.label}: {clock(now - self.started)} {progress(self.log)}"
                if terminal:
                    width = shutil.get_terminal_size().columns - 1
                    self.out.write("\r\033[K" + f"      {text}"[:width])
                    self.out.flush()
                elif now - last >= HEARTBEAT_S:
                    last = now
                    self.say(text[:100])
        finally:
            if terminal:
                self.out.write("\r\033[K")
                self.out.flush()


def stop(child: "subprocess.Popen[bytes]") -> None:
    """Ends a command and all it started: politely first, so that pip can clean up."""
    try:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=GRACE_S)
    finally:  # also after a second Ctrl-C
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def tail(path: Path, size: int) -> str:
    """The last ``size`` bytes of a text file, as text."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - size))
        return file.read().decode(errors="replace")


def progress(log: Path) -> str:
    """What a log's end says about how far its command is: files compiled, or the last line."""
    text = tail(log, 65_536)
    compiled = re.findall(r"^\s*\[(\d+)/(\d+)\]", text, re.MULTILINE)
    if compiled:
        return "({} of {} files compiled)".format(*compiled[-1])
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines and not lines[-1].startswith("$ ") else ""


def clock(seconds: float) -> str:
    """Minutes and seconds, as ``m:ss``."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def digests(steps: Sequence[Step]) -> dict[str, str]:
    """For each step the digest of its own inputs and of everything before it."""
    chain, result = "", {}
    for step in steps:
        text = json.dumps([chain, step.name, list(step.inputs)])
        chain = result[step.name] = hashlib.sha256(text.encode()).hexdigest()
    return result


def pending(steps: Sequence[Step], state: Path) -> list[Step]:
    """The first step whose stamp is missing or stale, and all after it."""
    wanted = digests(steps)
    for index, step in enumerate(steps):
        if read_stamp(state / f"{step.name}.json") != wanted[step.name]:
            return list(steps[index:])
    return []


def read_stamp(path: Path) -> str | None:
    try:
        return json.loads(path.read_text())["digest"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def write_stamp(path: Path, digest: str, seconds: float) -> None:
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps({"digest": digest, "seconds": round(seconds, 1)}) + "\n")
    os.replace(beside, path)


def forget(steps: Sequence[Step], state: Path) -> None:
    """Takes the stamps of ``steps`` away."""
    for step in steps:
        with contextlib.suppress(FileNotFoundError):
            (state / f"{step.name}.json").unlink()


def perform(
    steps: Sequence[Step],
    state: Path,
    cwd: Path,
    env: Mapping[str, str],
    out: TextIO = sys.stdout,
    hints: Sequence[Hint] = (),
    inherit: Sequence[int] = (),
) -> list[str]:
    """Does the steps that are not done yet, in order, and returns their names.

    Args:
        steps: The whole plan.
        state: Folder of stamps and logs.
        cwd: Where commands run.
        env: Their environment.
        hints: Advice for failures that a command's output explains.
        inherit: File descriptors that commands keep open (the lock's: an orphaned command goes on
            holding it).

    Raises:
        StepFailed: Its ``step`` attribute names the step.
        KeyboardInterrupt: Passed on, after the running command has been ended; ``step`` as above.
    """
    wanted, todo = digests(steps), pending(steps, state)
    forget(todo, state)
    for step in todo:
        number = [other.name for other in steps].index(step.name) + 1
        print(f"[{number}/{len(steps)}] {step.name}: {step.says}", file=out, flush=True)
        log = state / f"{step.name}.log"
        log.write_bytes(b"")
        runner = Runner(step.name, log, env, cwd, out, hints, inherit)
        try:
            remark = step.run(runner)
        except (StepFailed, KeyboardInterrupt) as error:
            error.step = step.name
            raise
        seconds = time.monotonic() - runner.started
        write_stamp(state / f"{step.name}.json", wanted[step.name], seconds)
        runner.say(f"done in {clock(seconds)}{f': {remark}' if remark else ''}")
    return [step.name for step in todo]


def explain(error: StepFailed, cwd: Path) -> str:
    """A failed step for the eyes of a user: which, what was run, the log's end, what to do."""
    lines = [f"set-up stopped in step '{getattr(error, 'step', '?')}': {error.problem}"]
    if error.command:
        lines.append(f"  command: {error.command}")
    if error.log is not None:
        shown = error.log.relative_to(cwd) if cwd in error.log.parents else error.log
        lines.append(f"  the end of {shown}:")
        ending = tail(error.log, 20_000).rstrip().splitlines()[-LOG_LINES_SHOWN:]
        lines += [f"    | {line[:200]}" for line in ending]
    advice = error.advice.replace("\n", "\n    ")
    lines.append(f"  what to do:\n    {advice}")
    lines.append("  Finished steps are kept: repeat the command, and it goes on here.")
    return "\n".join(lines)


@contextlib.contextmanager
def lock(path: Path, out: TextIO = sys.stdout) -> Iterator[int]:
    """Holds an exclusive lock on a file; waits, and says so, while another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "?"
            print(f"another set-up is running (process {owner}): waiting for it", file=out)
            out.flush()
            fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield file.fileno()
