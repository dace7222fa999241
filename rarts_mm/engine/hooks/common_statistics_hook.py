"""Running statistics that several processes have in common."""

from mmengine.dist import all_reduce_params, get_world_size
from mmengine.hooks import Hook
from torch.nn.modules.batchnorm import _NormBase

from rarts_mm.registry import HOOKS

from .saving import checkpoint_hooks, saves_now


@HOOKS.register_module()
class CommonStatisticsHook(Hook):
    """Averages the running means and variances of the processes, before they are saved or validated.

    Plain batch norms follow each process' own images, and a checkpoint holds those of the first process
    alone: without this the others would resume with statistics that are not theirs, and each share of
    the validation images would be seen by another network. (MMEngine's ``SyncBuffersHook`` does so at
    the end of an epoch.)
    """

    # Before statistics are computed anew, and before checkpoints are written.
    priority = "HIGH"

    def after_train_iter(
        self, runner, batch_idx: int, data_batch=None, outputs: dict | None = None
    ) -> None:
        del batch_idx, data_batch, outputs
        if any(saves_now(hook, runner) for hook in checkpoint_hooks(runner)):
            self._average(runner)

    def after_train_epoch(self, runner) -> None:
        self._average(runner)

    def _average(self, runner) -> None:
        if get_world_size() == 1:
            return
        norms = [m for m in runner.model.modules() if isinstance(m, _NormBase)]
        buffers = [b for m in norms for b in (m.running_mean, m.running_var) if b is not None]
        if buffers:
            all_reduce_params(buffers, op="mean")
