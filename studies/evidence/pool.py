"""Many runs, a few at a time: with a progress bar, and without doing again what is done."""

import contextlib
import json
import multiprocessing
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from rarts_mm.apis import command_line
from rarts_mm.files import write_text

RESULT = "result.json"


def once(make: Callable[[], dict], folder: Path) -> dict:
    """What ``make`` returns, kept in the folder's ``result.json``; if it is there, it is read instead.

    Whatever is printed meanwhile goes to the folder's ``log.txt``.
    """
    result = folder / RESULT
    if result.is_file():
        return json.loads(result.read_text())
    # What an interrupted run left here is of no use: a run takes seconds.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with open(folder / "log.txt", "w") as log, contextlib.ExitStack() as quiet:
        quiet.enter_context(contextlib.redirect_stdout(log))
        quiet.enter_context(contextlib.redirect_stderr(log))
        quiet.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        content = make()
    write_text(result, json.dumps(content, indent=1))
    return content


def run_all(
    perform: Callable[[Any, Path], dict],
    tasks: Mapping[str, Any],
    work: Path,
    workers: int,
    what: str,
) -> dict[str, dict]:
    """Perform tasks, ``workers`` at a time, with a progress bar.

    Args:
        perform: called with a task and its folder, in another process.
        tasks: folder, relative to ``work`` -> task.
        work: the folder of all.
        workers: number of processes, of one thread each.
        what: for the progress bar.

    Returns:
        Folder -> what ``perform`` returned, in the order of the tasks.

    Raises:
        RuntimeError: A worker was killed, or a run failed; it names the run.
    """
    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(elapsed_when_finished=False),
    )
    console = Console(stderr=True)
    results: dict[str, dict] = {}
    # Forked, they share what is imported here; this process computes nothing.
    context = multiprocessing.get_context("fork")
    with (
        Progress(*columns, console=console, speed_estimate_period=600) as progress,
        ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker) as pool,
    ):
        bar = progress.add_task(what, total=len(tasks))
        running = {
            pool.submit(perform, task, work / folder): folder for folder, task in tasks.items()
        }
        try:
            waiting = set(running)
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    folder = running[future]
                    try:
                        results[folder] = future.result()
                    except BrokenProcessPool:
                        raise RuntimeError(
                            f"a worker was killed (out of memory?) around {folder}; the same command "
                            "goes on from here, with less memory by --workers 1"
                        ) from None
                    progress.advance(bar)
                    if not console.is_terminal:
                        console.print(f"{what} {len(results)}/{len(tasks)}: {folder}")
        finally:
            # After an error or Ctrl-C: what has not begun shall not, what runs shall not go on.
            if sys.exc_info()[0] is not None:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in multiprocessing.active_children():
                    process.terminate()
    return {folder: results[folder] for folder in tasks}


def _begin_worker() -> None:
    torch.set_num_threads(1)
    # Not the parent's handler, whose exception the pool would hand back as a task's; and Ctrl-C is
    # the parent's affair.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def check_identity(work: Path, identity: dict) -> None:
    """Raise if the folder holds a comparison of other settings; else note these."""
    record = work / "settings.json"
    identity = json.loads(json.dumps(identity))
    if record.is_file():
        found = json.loads(record.read_text())
        if odd := sorted(k for k in {*identity, *found} if found.get(k) != identity.get(k)):
            raise command_line.UsageError(
                f"{work} holds a comparison of other settings (it differs in {', '.join(odd)}); "
                "choose another folder with --work-dir DIR, or remove that one"
            )
    write_text(record, json.dumps(identity, indent=1))
