"""A training that is told to make room saves where it is, and ends."""

from pathlib import Path

import torch
from mmengine.dist import all_reduce, barrier, get_world_size, is_main_process
from mmengine.hooks import CheckpointHook, Hook

from rarts_mm import preemption
from rarts_mm.files import write_text
from rarts_mm.registry import HOOKS

from ..unwrapping import unwrapped
from .saving import checkpoint_hooks

NAME = "preempted.pth"
# Several processes ask each other so often, in steps: each time costs a message.
_INTERVAL = 10


@HOOKS.register_module()
class PreemptionHook(Hook):
    """After the step in which a signal asked for it, saves ``preempted.pth`` and ends the process.

    See :mod:`rarts_mm.preemption`. The checkpoint holds all that a run is resumed with, lies beside the
    regular ones and is named by ``last_checkpoint``; once one of those is written again, it is removed.
    All processes of a run end after the same step, whichever was told. A run without a checkpoint hook
    ends without saving.
    """

    # After CheckpointHook.
    priority = "LOWEST"

    def __init__(self) -> None:
        self._old: list[tuple[CheckpointHook, str]] = []

    def before_train(self, runner) -> None:
        if is_main_process():
            places = [
                (s, s.file_backend.join_path(s.out_dir, NAME)) for s in checkpoint_hooks(runner)
            ]
            self._old = [(s, path) for s, path in places if s.file_backend.isfile(path)]

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        del batch_idx, data_batch, outputs
        self._remove_old()
        # After the very last step the run ends by itself.
        if not self._asked(runner) or runner.iter + 1 >= runner.max_iters:
            return
        saver = next(iter(checkpoint_hooks(runner)), None)
        if saver is None:
            runner.logger.warning("Told to make room; without a CheckpointHook nothing is saved.")
        else:
            self._save(runner, saver)
        # The first one to end may take the others with it.
        barrier()
        raise preemption.Preempted

    def after_train_epoch(self, runner) -> None:
        self._remove_old()

    def _asked(self, runner) -> bool:
        if get_world_size() == 1:
            return preemption.is_asked()
        if (runner.iter + 1) % _INTERVAL:
            return False
        where = next(unwrapped(runner.model).parameters()).device
        asked = torch.tensor(float(preemption.is_asked()), device=where)
        all_reduce(asked, "max")
        return bool(asked)

    def _save(self, runner, saver: CheckpointHook) -> None:
        runner.save_checkpoint(
            saver.out_dir,
            NAME,
            saver.file_client_args,
            backend_args=saver.backend_args,
            by_epoch=False,
        )
        runner.logger.info(
            "Told to make room: saved %s at iteration %d of epoch %d; go on with --resume.",
            *(NAME, runner.iter + 1, runner.epoch + 1),
        )
        if is_main_process():
            path = saver.file_backend.join_path(saver.out_dir, NAME)
            write_text(Path(runner.work_dir) / "last_checkpoint", path)

    def _remove_old(self) -> None:
        """Remove the file of an earlier pre-emption when a regular one has taken its place."""
        for saver, path in list(self._old):
            if saver.last_ckpt is not None:
                saver.file_backend.remove(path)
                self._old.remove((saver, path))
