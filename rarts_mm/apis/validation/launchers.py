"""Whether the launcher that is named has started this process."""

import os

from ..errors import UsageError

# What MMEngine reads when it joins the processes of a launcher, and who starts them.
_LAUNCHERS = {
    "pytorch": (
        ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
        "torchrun",
        "tools/dist_train.sh CONFIG GPUS (or torchrun)",
    ),
    "slurm": (
        ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_NODELIST"),
        "Slurm",
        "tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR (or srun)",
    ),
    "mpi": (
        (
            "OMPI_COMM_WORLD_RANK",
            "OMPI_COMM_WORLD_SIZE",
            "OMPI_COMM_WORLD_LOCAL_RANK",
            "MASTER_ADDR",
        ),
        "Open MPI",
        "mpirun -x MASTER_ADDR=HOST",
    ),
}


def check_launcher(launcher: str) -> None:
    """Raise :class:`UsageError` unless the launcher's variables are there and are what they must be."""
    if launcher not in _LAUNCHERS:
        return
    variables, who, how = _LAUNCHERS[launcher]
    absent = [name for name in variables if name not in os.environ]
    if absent:
        raise UsageError(
            f"--launcher {launcher}: this process was not started by {who}, whose variables are missing "
            f"({', '.join(absent)}); start it with {how}, or leave --launcher out for one process"
        )
    for name in variables:
        value = os.environ[name]
        if name.endswith(("RANK", "SIZE", "PORT", "PROCID", "NTASKS")) and not value.isdigit():
            raise UsageError(
                f"--launcher {launcher}: the environment has {name}={value!r}, which is no whole number; "
                f"start it with {how}"
            )
