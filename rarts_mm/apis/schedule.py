"""Schedules of other lengths."""

import copy

from mmengine.config import Config

_LENGTHS = ("begin", "end", "T_max", "total_iters", "step_size")


def continued(cfg: Config, epochs: int) -> Config:
    """The config that trains a model on for some epochs, with its schedule stretched to them.

    Schedulers by epoch keep their shape; those by iteration (warm-ups) stay as they are.
    """
    cfg = copy.deepcopy(cfg)
    factor = epochs / cfg.train_cfg["max_epochs"]
    cfg.train_cfg["max_epochs"] = epochs
    if cfg.train_cfg.get("val_interval"):
        cfg.train_cfg["val_interval"] = max(1, round(cfg.train_cfg["val_interval"] * factor))
    schedulers = cfg.get("param_scheduler") or []
    for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
        if not scheduler.get("by_epoch", True):
            continue
        for key in _LENGTHS:
            if scheduler.get(key):
                scheduler[key] = max(1, round(scheduler[key] * factor))
        if scheduler.get("milestones"):
            scheduler["milestones"] = [max(1, round(m * factor)) for m in scheduler["milestones"]]
    return cfg
