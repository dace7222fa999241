"""Several processes on machines without a GPU."""

import torch
from mmengine.config import Config
from mmengine.device import get_device


def join_processes(cfg: Config) -> None:
    """Join torchrun's processes where the Runner could not: it insists on a GPU for each.

    On a CPU the processes talk through gloo, whatever ``env_cfg.dist_cfg`` says. With an accelerator,
    without a launcher, or joined already: nothing is done.
    """
    if cfg.get("launcher", "none") != "pytorch" or get_device() != "cpu":
        return
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")
