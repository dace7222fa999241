"""A sweep's jobs on this machine."""

import json
import os
import shlex
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from rarts_mm import preemption
from rarts_mm.engine import has_saved
from rarts_mm.files import write_text
from rarts_mm.locks import locked

from ..errors import UsageError
from ..stages.screen import clock
from .spec import Job, Sweep

# Seconds: between two looks; that a job gets to end by itself when it is told to.
_TICK, _GRACE = 0.2, 15.0


def is_done(job: Job) -> bool:
    """Whether the job has come to a good end, with the command that it has now."""
    try:
        record = json.loads(job.record.read_text())
        return record["status"] == 0 and record["command"] == job.asks
    except (OSError, ValueError, KeyError, TypeError):
        return False


def check_folder(job: Job) -> None:
    """Refuse to go on with a training that was begun with other settings: it would report the old ones.

    (``compress`` looks itself.)

    Raises:
        UsageError: names the folder.
    """
    try:
        begun = json.loads(job.record.read_text())["command"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if begun != job.asks and has_saved(job.folder):
        raise UsageError(
            f"{job.folder} holds a training of this sweep that was begun with other settings "
            f"({shlex.join(begun)}). Take another work_dir, or remove that folder and {job.record}"
        )


def seconds_of(job: Job) -> float | None:
    """How long its last run took."""
    try:
        return float(json.loads(job.record.read_text())["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


@dataclass
class Running:
    """A job whose process was started."""

    job: Job
    process: subprocess.Popen
    slot: int
    began: float = field(default_factory=time.monotonic)

    def finish(self) -> int:
        """Note how it ended."""
        status = self.process.wait()
        if status == -preemption.SIGNAL:
            # Told before its first line was read.
            status = preemption.PREEMPTED
        _write_record(self.job, status, round(time.monotonic() - self.began, 1))
        return status


def _write_record(job: Job, status: int | None, seconds: float) -> None:
    record = dict(status=status, seconds=seconds, command=job.asks)
    write_text(job.record, json.dumps(record, indent=1))


def start(job: Job, slot: int = 0, slots: int = 1) -> Running:
    """Start a job's process; of several at a time, ``slot`` says which GPU is its own."""
    job.log.parent.mkdir(parents=True, exist_ok=True)
    _write_record(job, None, 0.0)
    environment = dict(os.environ)
    gpus = torch.cuda.device_count()
    if slots > 1 and gpus > 1:
        visible = environment.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus))))
        environment["CUDA_VISIBLE_DEVICES"] = visible.split(",")[slot % gpus]
    with open(job.log, "ab") as log:
        log.write(f"$ {shlex.join(job.command)}\n".encode())
        log.flush()
        process = subprocess.Popen(
            job.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            # Ctrl-C is this process's affair, which ends its jobs in an orderly way.
            start_new_session=True,
        )
    return Running(job, process, slot)


def _end(running: Sequence[Running]) -> None:
    """See that all end; one that does not is killed. What they have saved stays."""
    for each in running:
        each.process.terminate()
    until = time.monotonic() + _GRACE
    for each in running:
        with suppress(subprocess.TimeoutExpired):
            each.process.wait(max(0.0, until - time.monotonic()))
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()


def _hand_on(running: Sequence[Running]) -> None:
    """Let all save where they are, and end."""
    for each in running:
        with suppress(ProcessLookupError):
            each.process.send_signal(preemption.SIGNAL)


def run_job(job: Job) -> int:
    """Run one job, wait for it, and return its exit status; one that is done is not run again.

    Told to make room (:mod:`rarts_mm.preemption`), the job saves where it is; the status is 75 then.

    Raises:
        UsageError: a training was begun with other settings.
        FolderInUseError: the job is running elsewhere.
    """
    if is_done(job):
        print(f"{job.name}: done before, skipped")
        return 0
    check_folder(job)
    with locked(job.folder.parent / "jobs" / f"{job.name}.running"):
        print(f"{job.name}: {shlex.join(job.command)} (log: {job.log})", flush=True)
        with preemption.heeded():
            one = start(job)
            told = False
            try:
                while one.process.poll() is None:
                    if preemption.is_asked() and not told:
                        _hand_on([one])
                        told = True
                    time.sleep(_TICK)
            finally:
                _end([one])
        status = one.finish()
    print(f"{job.name}: {_how(status)} after {clock(seconds_of(job))}", flush=True)
    return status


def run_here(sweep: Sweep, parallel: int = 1) -> dict[str, int]:
    """Run all jobs that are not done, some at a time; one that fails does not keep the others.

    Interrupted, the same call goes on: jobs that are done are skipped, and each of the others goes on
    where it stopped. With several at a time and several GPUs, each has a GPU of its own.

    Returns:
        Name of each job that did not come to a good end -> its exit status.

    Raises:
        UsageError: a training was begun with other settings.
        FolderInUseError: the sweep is being run already.
        Preempted: this process was told to make room; so were its jobs, which have saved.
    """
    for job in sweep.jobs:
        check_folder(job)
    with locked(sweep.work_dir / "jobs"):
        return _Pool(sweep, parallel).run()


class _Pool:
    """Runs jobs, and shows how far they are."""

    def __init__(self, sweep: Sweep, parallel: int) -> None:
        self.waiting = [job for job in sweep.jobs if not is_done(job)]
        self.total, self.parallel = len(sweep.jobs), parallel
        self.running: list[Running] = []
        self.failed: dict[str, int] = {}
        self.took: list[float] = []
        console = Console(soft_wrap=True, highlight=False, markup=False)
        self.bar = Progress(
            TextColumn("jobs"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        done = self.total - len(self.waiting)
        self.task = self.bar.add_task("", total=self.total, completed=done)
        if done:
            self.say(f"{done} of {self.total} jobs are done, skipped")

    def say(self, text: str) -> None:
        self.bar.console.print(text)

    def run(self) -> dict[str, int]:
        told = False
        with self.bar, preemption.heeded():
            try:
                while self.running or (self.waiting and not told):
                    while self.waiting and not told and len(self.running) < self.parallel:
                        self._next()
                    time.sleep(_TICK)
                    for each in [r for r in self.running if r.process.poll() is not None]:
                        self._finish(each)
                    if preemption.is_asked() and not told:
                        _hand_on(self.running)
                        told = True
            finally:
                _end(self.running)
        if told:
            raise preemption.Preempted
        return self.failed

    def _next(self) -> None:
        job = self.waiting.pop(0)
        taken = {each.slot for each in self.running}
        slot = next(s for s in range(self.parallel) if s not in taken)
        self.running.append(start(job, slot, self.parallel))
        self.say(f"[{job.number + 1}/{self.total}] {job.name}: started (log: {job.log})")

    def _finish(self, one: Running) -> None:
        self.running.remove(one)
        status = one.finish()
        seconds = time.monotonic() - one.began
        self.took.append(seconds)
        if status:
            self.failed[one.job.name] = status
        left = ""
        if rest := len(self.waiting) + len(self.running):
            mean = sum(self.took) / len(self.took)
            left = f"; {rest} left, about {clock(mean * -(-rest // self.parallel))}"
        self.bar.update(self.task, advance=1, description=left.lstrip("; "))
        self.say(
            f"[{one.job.number + 1}/{self.total}] {one.job.name}: {_how(status)} after "
            f"{clock(seconds)}{left}"
        )


def _how(status: int) -> str:
    if status == 0:
        return "done"
    if status == preemption.PREEMPTED:
        return "saved, to make room"
    return f"FAILED, status {status}"
