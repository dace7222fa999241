"""Several processes: on machines without a GPU, when one of them fails, and how they end."""

import atexit
import os
import sys
import time
import traceback

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import get_dist_info, get_world_size
from torch import distributed
from torch.distributed.elastic.multiprocessing.errors import get_error_handler

# Time for a launcher to end the other processes after one has failed; torchrun takes about a second.
_PATIENCE = 15.0
# Where the launchers say which process this is.
_RANK_OF = dict(pytorch="RANK", slurm="SLURM_PROCID", mpi="OMPI_COMM_WORLD_RANK")


def join_processes(cfg: Config) -> None:
    """Join torchrun's processes where the Runner could not: it insists on a GPU for each.

    On a CPU the processes talk through gloo, whatever ``env_cfg.dist_cfg`` says, and MMEngine's wrapper
    of models becomes one that can do without a GPU. With an accelerator or without a launcher nothing
    is done.
    """
    if cfg.get("launcher", "none") != "pytorch" or get_device() != "cpu":
        return
    if not distributed.is_initialized():
        distributed.init_process_group("gloo")
    # Without a config of its own the Runner takes these.
    wrapper = cfg.get("model_wrapper_cfg") or dict(
        broadcast_buffers=False,
        find_unused_parameters=cfg.get("find_unused_parameters", False),
    )
    if wrapper.get("type", "MMDistributedDataParallel") == "MMDistributedDataParallel":
        cfg.model_wrapper_cfg = dict(wrapper, type="rarts_mm.CPUDistributed")


def is_first_process(launcher: str) -> bool:
    """Whether this is the process that writes, of those that a launcher has started.

    Known before they are connected, from what the launcher leaves in the environment.
    """
    return os.environ.get(_RANK_OF.get(launcher, ""), "0") == "0"


def started_by_torchrun() -> bool:
    """Whether this is one of the processes that torchrun looks after."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def wait_for_the_others() -> None:
    """Wait until all processes have done their part: who goes first closes connections."""
    if get_world_size() > 1:
        distributed.barrier()


def end_one_of_several(status: int | None, error: BaseException | None) -> None:
    """End a process that has others beside it, without taking the interpreter down; else do nothing.

    A thread of gloo may still hold tensors of a step that is long done, for want of processor time. To
    let go of one that Python has seen it asks for the interpreter; if that is being taken down, the
    thread is ended inside a destructor, and with it the process ("terminate called without an active
    exception"), whatever it had achieved. The group is destroyed where all went well; else that could
    wait forever for a process that was lost.

    Args:
        status: the exit status; 0 if :func:`wait_for_the_others` has returned.
        error: a surprise, whose traceback is to be printed; its status is 1.
    """
    if get_world_size() == 1:
        return
    if status == 0:
        distributed.destroy_process_group()
    if error is not None:
        traceback.print_exception(error)
        status = 1
    # What else the interpreter's end would do: close logs and loaders' workers.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def name_of_process() -> str:
    """`` on rank 1`` where there are several processes, else nothing."""
    rank, world_size = get_dist_info()
    return f" on rank {rank}" if world_size > 1 else ""


def is_echo_of_another_process(error: BaseException) -> bool:
    """Whether an error only says that the connection to another process was lost."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return False
    lost = isinstance(error, RuntimeError) and "gloo" in str(error)
    return lost or isinstance(error, distributed.DistError)


def explain_to_launcher(error: BaseException) -> None:
    """Let torchrun's summary name the error; it is the first process to fail that it asks."""
    if distributed.is_available() and distributed.is_initialized():
        get_error_handler().record_exception(error)


def wait_to_be_ended() -> None:
    """Wait for the launcher to end this process, since another one has failed.

    Would it end by itself, the launcher could take it for the cause.
    """
    time.sleep(_PATIENCE)
    print(
        f"stopped{name_of_process()}: the connection to another process was lost, and nobody said why. "
        "It may have been killed, for example for want of memory; go on with --resume.",
        file=sys.stderr,
    )
