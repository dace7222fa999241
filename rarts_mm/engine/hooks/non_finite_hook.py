"""Stops a run whose loss is no longer a number."""

import math
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.runner import find_latest_checkpoint
from torch import Tensor

from rarts_mm.registry import HOOKS


class NonFiniteLossError(RuntimeError):
    """A loss became NaN or infinite."""


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Ends the run, before anything is saved, as soon as a loss is NaN or infinite.

    Checkpoints on disk stay as they are. Under a loss scaler an infinite *gradient* is skipped by the
    scaler; an infinite loss value still ends the run.
    """

    priority = "VERY_HIGH"

    def after_train_iter(
        self, runner, batch_idx: int, data_batch=None, outputs: dict | None = None
    ) -> None:
        del batch_idx, data_batch
        losses = {
            key: float(value.detach() if isinstance(value, Tensor) else value)
            for key, value in (outputs or {}).items()
            if "loss" in key
        }
        bad = {key: value for key, value in losses.items() if not math.isfinite(value)}
        if not bad:
            return
        last = find_latest_checkpoint(runner.work_dir) if Path(runner.work_dir).is_dir() else None
        where = f"the last good checkpoint is {last}" if last else "no checkpoint was saved before"
        raise NonFiniteLossError(
            f"{', '.join(f'{k}={v}' for k, v in bad.items())} at epoch {runner.epoch + 1}, iteration "
            f"{runner.iter + 1}; {where} and nothing was overwritten. Usual causes: a learning rate "
            "or beta too high, or fp16 without loss scaling. Lower it and go on with --resume."
        )
