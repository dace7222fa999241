"""Tells whoever follows a run how far it has come."""

import time
from collections.abc import Mapping

from mmengine.hooks import Hook
from torch import Tensor

from rarts_mm.progress import report
from rarts_mm.registry import HOOKS

# Seconds between two reports: a loss that is read makes an accelerator wait.
_INTERVAL = 0.5


@HOOKS.register_module()
class ProgressHook(Hook):
    """Reports steps, loss and metrics of a training or a test (:mod:`rarts_mm.progress`).

    The steps are those of the whole training, so that a listener can tell the time that is left; while
    a validation runs, its own steps are in the text.
    """

    priority = "LOWEST"

    def __init__(self) -> None:
        self._told = float("-inf")

    def before_train(self, runner) -> None:
        report(done=runner.iter, of=runner.max_iters, text=_epoch(runner))

    def after_train_iter(
        self, runner, batch_idx: int, data_batch=None, outputs: Mapping | None = None
    ) -> None:
        del batch_idx, data_batch
        done = runner.iter + 1
        if self._is_due(last=done == runner.max_iters):
            text = ", ".join(part for part in (_epoch(runner), _loss(outputs)) if part)
            report(done=done, of=runner.max_iters, text=text)

    def after_val_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        del data_batch, outputs
        done, of = batch_idx + 1, len(runner.val_dataloader)
        if self._is_due(last=done == of):
            report(text=f"validating {done}/{of}")

    def after_val_epoch(self, runner, metrics: Mapping[str, float] | None = None) -> None:
        del runner
        _report_metrics(metrics)

    def before_test(self, runner) -> None:
        report(done=0, of=len(runner.test_dataloader), text="")

    def after_test_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        del data_batch, outputs
        done, of = batch_idx + 1, len(runner.test_dataloader)
        if self._is_due(last=done == of):
            report(done=done, of=of)

    def after_test_epoch(self, runner, metrics: Mapping[str, float] | None = None) -> None:
        del runner
        _report_metrics(metrics)

    def _is_due(self, last: bool) -> bool:
        now = time.monotonic()
        if not last and now - self._told < _INTERVAL:
            return False
        self._told = now
        return True


def _epoch(runner) -> str:
    """``epoch 3/10``; empty where a training counts iterations."""
    if getattr(runner.train_loop, "_max_epochs", 1) <= 1:
        return ""
    return f"epoch {min(runner.epoch + 1, runner.max_epochs)}/{runner.max_epochs}"


def _loss(outputs: Mapping | None) -> str:
    value = (outputs or {}).get("loss")
    if value is None:
        return ""
    return f"loss {float(value.detach() if isinstance(value, Tensor) else value):.3g}"


def _report_metrics(metrics: Mapping[str, float] | None) -> None:
    numbers = {k: float(v) for k, v in (metrics or {}).items() if isinstance(v, int | float)}
    if numbers:
        report(metrics=numbers)
