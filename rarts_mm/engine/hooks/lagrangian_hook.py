"""Logs the Lagrangian, its terms, and how far the search is from an equilibrium."""

from rarts_mm.registry import HOOKS
from rarts_mm.search import AUXILIARY, PRIMARY, SYMBOLS

from .search_hook import SearchHook


@HOOKS.register_module()
class LagrangianHook(SearchHook):
    """Logs |u - w|, the coupling, the Lagrangian L (thesis, eq. 2.11) and the equilibrium residuals.

    ``residual_w``, ``residual_u`` and ``residual_alpha`` are the norms of the left sides of the
    equilibrium equations (thesis, eq. 2.19; of those of the alternation where it is another), on the
    step's batches and before clipping: the gradients that the sub-steps follow. With noisy batches they
    level off instead of vanishing (Corollary 2.8).

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

    def _due(self, runner, batch_idx: int) -> bool:
        # At the end of an epoch too, which may be shorter than the interval.
        last = batch_idx + 1 == len(runner.train_dataloader)
        return last or self.every_n_inner_iters(batch_idx, self.interval)

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        del data_batch
        runner.optim_wrapper.stepper.measure = self._due(runner, batch_idx)

    def after_train_iter(
        self, runner, batch_idx: int, data_batch=None, outputs: dict | None = None
    ) -> None:
        del data_batch
        if not self._due(runner, batch_idx):
            return
        wrapper = runner.optim_wrapper
        terms = {f"residual_{SYMBOLS[k]}": v for k, v in wrapper.stepper.residuals.items()}
        if PRIMARY in wrapper:
            players = wrapper.stepper.players
            coupling, distance = wrapper.lagrangian.coupling_terms(
                players[PRIMARY].params, players[AUXILIARY].params
            )
            terms |= {"distance_uw": distance, "coupling": coupling}
            # Missing where a part of the step was skipped.
            if "loss" in outputs:
                terms["lagrangian"] = outputs["loss"] + coupling + outputs["penalty"]
        for key, value in terms.items():
            runner.message_hub.update_scalar(f"train/{key}", value)
