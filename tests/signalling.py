"""A hook that sends its own process a signal after a step: a pre-emption at a place that is known."""

import os
import signal

from mmengine.dist import get_rank
from mmengine.hooks import Hook

from rarts_mm.registry import HOOKS


@HOOKS.register_module(force=True)
class SignallingHook(Hook):
    """Sends ``name`` after the step number ``at`` (from 1) of a run, in the process ``rank``."""

    def __init__(self, name: str, at: int, rank: int = 0) -> None:
        self.name, self.at, self.rank = name, at, rank

    def after_train_iter(self, runner, *_: object, **__: object) -> None:
        if runner.iter + 1 == self.at and get_rank() == self.rank:
            os.kill(os.getpid(), signal.Signals[self.name])
