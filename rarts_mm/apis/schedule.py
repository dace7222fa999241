"""Schedules of other lengths."""

import copy
from collections.abc import Callable, Iterator

from mmengine.config import Config

from .iterations import is_by_iterations

_PLACES = ("begin", "end")
_LENGTHS = ("T_max", "total_iters", "step_size")


def continued(cfg: Config, length: int) -> Config:
    """The config that trains a model on for some time, with its schedule stretched to that.

    In a training by epochs, schedulers by epoch keep their shape and those by iteration (warm-ups)
    stay as they are. In one by iterations, warm-ups stay and the rest is stretched behind them.

    Args:
        cfg: a config that trains a plain model; not changed.
        length: epochs, or iterations where the config counts these.
    """
    cfg = copy.deepcopy(cfg)
    by_epoch = not is_by_iterations(cfg.train_cfg)
    key = "max_epochs" if by_epoch else "max_iters"
    before = cfg.train_cfg[key]
    cfg.train_cfg[key] = length
    if cfg.train_cfg.get("val_interval"):
        interval = cfg.train_cfg["val_interval"] * length / before
        cfg.train_cfg["val_interval"] = max(1, round(interval))
    schedulers = [s for s in _schedulers(cfg) if s.get("by_epoch", True) == by_epoch]
    fixed = 0
    if not by_epoch:
        warm_ups = [s for s in schedulers if _is_warm_up(s, before)]
        schedulers = [s for s in schedulers if s not in warm_ups]
        fixed = max((s["end"] for s in warm_ups), default=0)
        if fixed >= length:
            # Nothing would be left to stretch.
            schedulers, fixed = schedulers + warm_ups, 0
    factor = (length - fixed) / (before - fixed)
    for scheduler in schedulers:
        _stretch(scheduler, factor, lambda at: at if at <= fixed else fixed + (at - fixed) * factor)
    return cfg


def _schedulers(cfg: Config) -> Iterator[dict]:
    schedulers = cfg.get("param_scheduler") or []
    yield from schedulers if isinstance(schedulers, list) else [schedulers]


def _is_warm_up(scheduler: dict, length: int) -> bool:
    """Whether a scheduler is over before the training's middle, and begins with it."""
    return not scheduler.get("begin") and 0 < scheduler.get("end", length) < length / 2


def _stretch(scheduler: dict, factor: float, place: Callable[[float], float]) -> None:
    for key in _LENGTHS:
        if scheduler.get(key):
            scheduler[key] = max(1, round(scheduler[key] * factor))
    for key in _PLACES:
        if scheduler.get(key):
            scheduler[key] = max(1, round(place(scheduler[key])))
    if scheduler.get("milestones"):
        scheduler["milestones"] = [max(1, round(place(m))) for m in scheduler["milestones"]]
