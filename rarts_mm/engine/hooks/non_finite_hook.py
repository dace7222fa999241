"""Stops a run whose loss or weights are no longer numbers."""

import math

import torch
from mmengine.hooks import Hook
from torch import Tensor

from rarts_mm.registry import HOOKS

from ..checkpoints import CheckpointError, checkpoint_to_resume
from .saving import checkpoint_hooks, saves_now


class NonFiniteLossError(RuntimeError):
    """A loss, or a weight, became NaN or infinite."""


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Ends the run, before anything is saved, as soon as a loss is NaN or infinite.

    Before a checkpoint is written, and before an old one is deleted for it, the weights are looked at
    too: those of the last step have not been in a loss yet. Checkpoints on disk stay as they are.
    Under a loss scaler an infinite *gradient* is skipped by the scaler; an infinite loss value still
    ends the run.
    """

    priority = "VERY_HIGH"

    def __init__(self) -> None:
        # How many iterations are done: the runner counts one only after all hooks have seen it.
        self._done: int | None = None

    def after_train_iter(
        self, runner, batch_idx: int, data_batch=None, outputs: dict | None = None
    ) -> None:
        del batch_idx, data_batch
        self._done = runner.iter + 1
        losses = {
            key: float(value.detach() if isinstance(value, Tensor) else value)
            for key, value in (outputs or {}).items()
            if "loss" in key
        }
        bad = {key: value for key, value in losses.items() if not math.isfinite(value)}
        if bad:
            _stop(runner, self._done, ", ".join(f"{k}={v}" for k, v in bad.items()))
        # The checkpoint hook deletes an old file before it writes the new one.
        if any(saves_now(hook, runner) for hook in checkpoint_hooks(runner)):
            self._check_weights(runner)

    def after_train_epoch(self, runner) -> None:
        # As above.
        self._check_weights(runner)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        del checkpoint
        self._check_weights(runner)

    def _check_weights(self, runner) -> None:
        weights = {name: p for name, p in runner.model.named_parameters() if p.numel()}
        with torch.no_grad():
            finite = torch.stack(torch._foreach_norm(list(weights.values()), math.inf)).isfinite()
        if finite.all():
            return
        bad = [name for name, fine in zip(weights, finite.tolist(), strict=True) if not fine]
        done = runner.iter if self._done is None else self._done
        _stop(runner, done, f"{len(bad)} weights with NaN or infinity, the first is {bad[0]},")


def _stop(runner, iteration: int, what: str) -> None:
    try:
        last = checkpoint_to_resume(runner.work_dir)
    except CheckpointError:
        last = None
    where = f"the last good checkpoint is {last}" if last else "no checkpoint was saved before"
    go_on = "go on with --resume" if last else "start again"
    raise NonFiniteLossError(
        f"{what} at epoch {runner.epoch + 1}, iteration {iteration}; {where} and nothing was "
        "overwritten. Usual causes: a learning rate or beta too high, or fp16 without loss scaling. "
        f"Lower it and {go_on}."
    )
