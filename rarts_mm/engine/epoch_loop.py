"""MMEngine's loop over epochs, resumed from the middle of one."""

from itertools import islice

from mmengine.runner import EpochBasedTrainLoop

from rarts_mm.registry import LOOPS


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """Goes on within the epoch in which a checkpoint of an iteration was saved.

    MMEngine's own loop would begin that epoch anew, and train for more steps than its schedule has. The
    batches that were trained on are loaded and passed over, in the order that the epoch's number gives
    them. Without such a checkpoint it is MMEngine's loop.
    """

    def run_epoch(self) -> None:
        """Iterate one epoch, or what is left of it."""
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        length = len(self.dataloader)
        start = self._iter - self._epoch * length
        # Another batch size makes other epochs.
        start = start if 0 <= start <= length else 0
        if start < length:
            for idx, data_batch in islice(enumerate(self.dataloader), start, None):
                self.run_iter(idx, data_batch)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1


def use_resumable_loop(runner) -> None:
    """Let a Runner that is about to train have it in the place of MMEngine's loop."""
    loop = runner._train_loop
    if isinstance(loop, dict) and loop.get("type") in ("EpochBasedTrainLoop", EpochBasedTrainLoop):
        runner._train_loop = dict(loop, type=ResumableEpochLoop)
