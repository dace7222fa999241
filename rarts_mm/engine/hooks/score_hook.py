"""Logs how the scores are distributed."""

from collections.abc import Sequence

import torch
from mmengine.model import is_model_wrapper

from rarts_mm.analysis import draw_score_histograms
from rarts_mm.registry import HOOKS

from .search_hook import SearchHook


@HOOKS.register_module()
class ScoreHook(SearchHook):
    """After every epoch: quantiles of |alpha| as scalars, a histogram per layer as a picture.

    Args:
        interval: number of epochs between two pictures (and logs).
        quantiles: the quantiles of all |alpha| together that are logged, as
            ``score/q10`` for 0.1.
    """

    # Before the logger and the checkpoint, so that both contain the numbers.
    priority = "NORMAL"

    def __init__(
        self, interval: int = 1, quantiles: Sequence[float] = (0.1, 0.25, 0.5, 0.75, 0.9)
    ) -> None:
        if interval < 1:
            raise ValueError(f"ScoreHook: interval must be at least 1, got {interval}")
        if not all(0 <= q <= 1 for q in quantiles):
            raise ValueError(f"ScoreHook: quantiles must lie in [0, 1], got {quantiles}")
        self.interval = interval
        self.quantiles = tuple(quantiles)

    def after_train_epoch(self, runner) -> None:
        if not self.every_n_epochs(runner, self.interval):
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        scores = {n: a.detach().abs().float().cpu() for n, a in model.alpha_parameters().items()}
        everything = torch.cat([s.flatten() for s in scores.values()]).sort().values
        log = {}
        for q in self.quantiles:
            # torch.quantile is limited to 16 M values; the sorted list is not.
            position = round(q * (everything.numel() - 1))
            log[f"score/q{round(100 * q):02d}"] = everything[position].item()
        log["score/exact_zeros"] = (everything == 0).float().mean().item()
        step = runner.iter
        for key, value in log.items():
            runner.message_hub.update_scalar(f"train/{key}", value)
        runner.visualizer.add_scalars(log, step=step)
        runner.visualizer.add_image("scores", draw_score_histograms(scores), step=step)
        runner.logger.info(
            "|alpha| after epoch %d: %s",
            runner.epoch + 1,
            "  ".join(f"{k.removeprefix('score/')}: {v:.4f}" for k, v in log.items()),
        )
