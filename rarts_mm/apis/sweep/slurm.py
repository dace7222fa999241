"""A sweep as a Slurm array."""

import re
import shlex
from pathlib import Path

from rarts_mm.files import write_text
from rarts_mm.preemption import PREEMPTED, SIGNAL

from ..errors import UsageError
from .spec import RUN, Sweep

# Seconds before a job's time is over at which it is told.
_WARNING = 120
_OWN = ("array", "output", "open-mode", "requeue", "signal")

_SCRIPT = """#!/usr/bin/env bash
# Written by rarts-mm sweep: one job of the sweep for each task of the array. Submit: sbatch {path}
{options}

# Slurm tells this shell, not the job, that time is running out or another job comes first. The job saves
# where it is, ends with status {preempted}, and is put into the queue again.
trap 'kill -USR1 "$job" 2>/dev/null' USR1 TERM
cd {cwd}
{command} --job "$SLURM_ARRAY_TASK_ID" &
job=$!
status=0
# A signal ends a wait, too.
wait "$job" || status=$?
while kill -0 "$job" 2>/dev/null; do
    status=0
    wait "$job" || status=$?
done
# Or ended by the signal itself, before its first line was read.
if [[ $status -eq {preempted} || $status -eq {untold} ]]; then
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
fi
exit "$status"
"""


def write_array(sweep: Sweep) -> Path:
    """Write ``sweep.sbatch``, which sbatch takes, and ``sweep.yaml``, a copy that its numbers hold for.

    Entries of the description's ``slurm`` become options of sbatch; ``parallel`` is how many tasks run at
    a time.

    Raises:
        UsageError: an option that the script needs for itself, or that is none.
    """
    settings = dict(sweep.slurm)
    parallel = settings.pop("parallel", None)
    if parallel is not None and (not isinstance(parallel, int) or parallel < 1):
        raise UsageError(f"{sweep.path}: slurm.parallel={parallel!r} must be a number >= 1")
    limit = "" if parallel is None else f"%{parallel}"
    folder = sweep.work_dir.absolute()
    options = {
        "job-name": sweep.path.stem,
        **{key.replace("_", "-"): value for key, value in settings.items()},
        "array": f"0-{len(sweep.jobs) - 1}{limit}",
        "output": f"{folder}/logs/slurm-%A_%a.log",
        "open-mode": "append",
        "requeue": True,
        "signal": f"B:USR1@{_WARNING}",
    }
    for key in settings:
        if key.replace("_", "-") in _OWN:
            raise UsageError(f"{sweep.path}: slurm.{key} is set by the script; leave it out")
    lines = []
    for key, value in options.items():
        text = "" if value is True else f"={value}"
        if not re.fullmatch(r"[a-z][a-z-]*", key) or "\n" in text:
            raise UsageError(f"{sweep.path}: slurm.{key}={value!r} is no option of sbatch")
        if value is not False and value is not None:
            lines.append(f"#SBATCH --{key}{text}")
    copy, script = folder / "sweep.yaml", folder / "sweep.sbatch"
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    if copy != sweep.path.absolute():
        write_text(copy, sweep.path.read_text(encoding="utf-8"))
    command = [*RUN, "sweep", str(copy)]
    # As it was given, for the jobs to be those that are merged later.
    command += ["--work-dir", str(sweep.work_dir)]
    write_text(
        script,
        _SCRIPT.format(
            path=shlex.quote(str(script)),
            options="\n".join(lines),
            cwd=shlex.quote(str(Path.cwd())),
            command=shlex.join(command),
            preempted=PREEMPTED,
            untold=128 + SIGNAL,
        ),
    )
    return script
