"""Many trainings from one description: seeds, ratios, weights of the Lagrangian.

SPEC is a YAML file (docs/sweep.md). Without an option all jobs run here, and their results are merged into
one table. Interrupted, the same command goes on where it stopped.
"""

import argparse
import shlex
from collections.abc import Sequence

from rarts_mm.preemption import PREEMPTED, Preempted

from .checking import check_commands
from .errors import SweepError
from .local import run_here, run_job
from .merging import merge
from .slurm import write_array
from .spec import read_sweep
from .submitting import submit


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spec", metavar="SPEC", help="YAML file")
    parser.add_argument("--work-dir", metavar="DIR", help="folder for everything; default: SPEC's")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="jobs that run here at a time (default: 1)"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--list", action="store_true", help="only list the jobs' commands")
    how.add_argument("--job", type=int, metavar="K", help="run one job, number K from 0")
    how.add_argument(
        "--slurm", action="store_true", help="only write an array file for Slurm's sbatch"
    )
    how.add_argument(
        "--submitit",
        nargs="?",
        const="auto",
        choices=["auto", "slurm", "local"],
        help="submit the jobs through submitit",
    )
    how.add_argument("--merge", action="store_true", help="only merge the results that there are")
    args = parser.parse_args(argv)
    if args.jobs < 1:
        parser.error(f"--jobs {args.jobs} must be a number >= 1")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    sweep = read_sweep(args.spec, args.work_dir)
    if not args.merge:
        check_commands(sweep)
    if args.list:
        for job in sweep.jobs:
            print(f"{job.number}: {shlex.join(job.command)}")
    elif args.job is not None:
        job = sweep.job(args.job)
        status = run_job(job)
        if status == PREEMPTED:
            raise Preempted
        if status:
            raise SweepError(f"{job.name} failed with status {status}; see {job.log}")
    elif args.slurm:
        script = write_array(sweep)
        print(f"wrote {script}; next: sbatch {shlex.quote(str(script))}")
        print(f"at the end: rarts-mm sweep {shlex.quote(args.spec)} --merge")
    elif args.submitit:
        ids = submit(sweep, None if args.submitit == "auto" else args.submitit)
        print(f"submitted {len(ids)} jobs{': ' if ids else ''}{' '.join(ids)}")
        print(f"at the end: rarts-mm sweep {shlex.quote(args.spec)} --merge")
    else:
        failed = {} if args.merge else run_here(sweep, args.jobs)
        for table in merge(sweep):
            table.print()
        print(f"wrote {sweep.work_dir}/results.md and results.json")
        if failed:
            raise SweepError(
                f"{len(failed)} of {len(sweep.jobs)} jobs failed; see {sweep.work_dir}/logs: "
                + ", ".join(failed)
            )
