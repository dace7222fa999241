"""Drop path that rises over a training."""

from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop

from rarts_mm.cells.retraining import DARTSNetwork
from rarts_mm.registry import HOOKS


@HOOKS.register_module()
class DropPathScheduleHook(Hook):
    """Drop path rises from 0 to the networks' ``drop_path_rate``, linearly by epochs.

    The rate of epoch e (counted from 0) of E is ``drop_path_rate * e / E``, as in the authors' code of
    DARTS. It follows from the epoch alone, so that a resumed training goes on with the right one. It
    is logged as ``drop_path``.

    .. code-block:: python

        custom_hooks = [dict(type='rarts_mm.DropPathScheduleHook')]

    Raises:
        ValueError: before the training, where there is no ``DARTSNetwork``, or its length is in
            iterations.
    """

    def before_train(self, runner) -> None:
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            raise ValueError(
                "DropPathScheduleHook counts epochs, but this training counts iterations: set "
                "train_cfg=dict(by_epoch=True, max_epochs=...), or leave the hook out for a constant "
                "drop path"
            )
        if not _networks(runner):
            raise ValueError(
                "DropPathScheduleHook: the model has no DARTSNetwork, whose drop path it sets; leave "
                "the hook out"
            )

    def before_train_epoch(self, runner) -> None:
        share = runner.epoch / runner.max_epochs
        networks = _networks(runner)
        for network in networks:
            network.set_drop_path(network.drop_path_rate * share)
        runner.message_hub.update_scalar("train/drop_path", networks[0].drop_path_rate * share)


def _networks(runner) -> list[DARTSNetwork]:
    return [m for m in runner.model.modules() if isinstance(m, DARTSNetwork)]
