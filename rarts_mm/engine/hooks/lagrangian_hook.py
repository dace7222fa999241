"""Logs the Lagrangian and its terms."""

from mmengine.hooks import Hook

from rarts_mm.registry import HOOKS
from rarts_mm.search import AUXILIARY, PRIMARY


@HOOKS.register_module()
class LagrangianHook(Hook):
    """Logs |u - w|, the coupling beta/2 |u - w|^2 and the Lagrangian L (thesis, eq. 2.11).

    The losses and the penalty are logged by the search itself at every step; these terms need a pass
    over all weights, so they are computed at an interval.

    Args:
        interval: number of iterations between two computations; each epoch's last one counts too.
    """

    priority = "ABOVE_NORMAL"

    def __init__(self, interval: int = 10) -> None:
        if interval < 1:
            raise ValueError(f"LagrangianHook: interval must be at least 1, got {interval}")
        self.interval = interval

    def after_train_iter(
        self, runner, batch_idx: int, data_batch=None, outputs: dict | None = None
    ) -> None:
        del data_batch
        wrapper = runner.optim_wrapper
        due = self.every_n_inner_iters(batch_idx, self.interval)
        # At the end of an epoch too, which may be shorter than the interval.
        last = batch_idx + 1 == len(runner.train_dataloader)
        if PRIMARY not in wrapper or not (due or last):
            return
        players = wrapper.stepper.players
        coupling, distance = wrapper.lagrangian.coupling(
            players[PRIMARY].params, players[AUXILIARY].params
        )
        terms = {"distance_uw": distance, "coupling": coupling}
        # Missing where the loss scaler skipped a part of the step.
        if "loss" in outputs:
            terms["lagrangian"] = outputs["loss"] + coupling + outputs["penalty"]
        for key, value in terms.items():
            runner.message_hub.update_scalar(f"train/{key}", value)
