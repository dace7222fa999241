"""Many trainings from one description: run here, as a Slurm array or by submitit, merged into one table."""

from .errors import SweepError
from .local import run_here, run_job
from .merging import merge
from .slurm import write_array
from .spec import Job, Sweep, read_sweep
from .submitting import submit

__all__ = [
    "Job",
    "Sweep",
    "SweepError",
    "merge",
    "read_sweep",
    "run_here",
    "run_job",
    "submit",
    "write_array",
]
