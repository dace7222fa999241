"""Whether the tool takes what the jobs of a sweep ask of it."""

import contextlib
import io
from collections.abc import Callable, Sequence
from importlib import import_module

from ..errors import UsageError
from .spec import Job, Sweep


def check_commands(sweep: Sweep) -> None:
    """Read every job's command line as its tool will.

    Raises:
        UsageError: the first job that the tool refuses, in its words, before any has been started.
    """
    read = import_module(f"rarts_mm.commands.{sweep.tool}").parse_args
    for job in sweep.jobs:
        if message := _refusal(read, job):
            raise UsageError(f"{sweep.path}: job {job.number} ({job.name}): {message}")


def _refusal(read: Callable[[Sequence[str]], object], job: Job) -> str | None:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            read(job.asks)
    except UsageError as error:
        return str(error)
    except SystemExit:
        # argparse says how it is used, and then what is wrong.
        return said.getvalue().strip().rpartition("error: ")[2]
    return None
