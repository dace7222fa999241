"""A sweep through submitit, where that is installed."""

import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from rarts_mm import preemption

from ..errors import UsageError
from .local import check_folder, is_done, start
from .spec import Job, Sweep


@dataclass
class Task:
    """One job, as submitit calls it; it saves where it is when submitit says so, and is queued again."""

    job: Job
    process: subprocess.Popen | None = None

    def __call__(self) -> int:
        """Run the job; return 0.

        Raises:
            RuntimeError: it failed.
        """
        if is_done(self.job):
            return 0
        one = start(self.job)
        self.process = one.process
        if status := one.finish():
            raise RuntimeError(f"{self.job.name} ended with status {status}; see {self.job.log}")
        return 0

    def checkpoint(self) -> object:
        """Let the job save; what submitit is to run later."""
        from submitit.helpers import DelayedSubmission

        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(preemption.SIGNAL)
            self.process.wait()
        return DelayedSubmission(Task(self.job))


def submit(sweep: Sweep, cluster: str | None = None) -> list[str]:
    """Submit the jobs that are not done.

    Entries of the description's ``slurm`` become submitit's parameters ``slurm_*`` (``time`` is given in
    minutes there).

    Args:
        cluster: ``'slurm'``, ``'local'`` or None: Slurm where it is.

    Returns:
        The ids of the jobs.

    Raises:
        UsageError: submitit is not installed, or does not take a parameter.
    """
    if find_spec("submitit") is None:
        raise UsageError(
            "--submitit: the package submitit is not installed: pip install submitit, or take --slurm, "
            "which writes a file for sbatch"
        )
    import submitit

    waiting = [job for job in sweep.jobs if not is_done(job)]
    if not waiting:
        return []
    for job in waiting:
        check_folder(job)
    folder = Path(sweep.work_dir).absolute() / "submitit"
    executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
    settings = dict(sweep.slurm)
    if (parallel := settings.pop("parallel", None)) is not None:
        settings["array_parallelism"] = parallel
    try:
        executor.update_parameters(
            name=sweep.path.stem, **{f"slurm_{k.replace('-', '_')}": v for k, v in settings.items()}
        )
    except (NameError, AssertionError, TypeError) as error:
        raise UsageError(f"{sweep.path}: slurm: submitit does not take it: {error}") from error
    with executor.batch():
        jobs = [executor.submit(Task(job)) for job in waiting]
    return [job.job_id for job in jobs]
