"""Logs what the architecture is expected to cost, in milliseconds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.model import is_model_wrapper

from rarts_mm.cells.places import searched_network
from rarts_mm.invocation import spelled
from rarts_mm.registry import HOOKS
from rarts_mm.search import LatencyPenalty

from .search_hook import SearchHook


@HOOKS.register_module()
class ExpectedLatencyHook(SearchHook):
    """Logs the expected latency of a topology search, in ms: of each kind of cell, and their sum.

    The sum over edges of <weights, latencies> without gamma (thesis, eq. 2.38), as ``latency/normal``,
    ``latency/reduce`` and ``latency/sum``. ``none`` has its share, which no derived network has.

    Args:
        table: a latency table or its file, as the penalty takes it; default: that of the search's
            ``LatencyPenalty``. With a table of its own the hook works without a penalty.
        interval: number of epochs between two logs.
    """

    # Before the logger, so that the log has the numbers.
    priority = "NORMAL"

    def __init__(
        self, table: Mapping[str, Any] | str | Path | None = None, interval: int = 1
    ) -> None:
        if interval < 1:
            raise ValueError(f"ExpectedLatencyHook: interval must be at least 1, got {interval}")
        self.interval = interval
        self.latency = None if table is None else LatencyPenalty(table, gamma=0.0)

    def before_train(self, runner) -> None:
        alphas = self._alphas(runner)
        if self.latency is None:
            penalties = runner.optim_wrapper.lagrangian.penalties
            self.latency = next((p for p in penalties if isinstance(p, LatencyPenalty)), None)
            if self.latency is None:
                raise ValueError(
                    "ExpectedLatencyHook: the search has no LatencyPenalty to take the latencies of; give "
                    f"table=FILE ({spelled('latency-table')} CONFIG measures one)"
                )
        else:
            self.latency.bind(alphas)
            searched = searched_network(self._model(runner))
            if searched is not None:
                self.latency.check(searched)
        latency = self.latency
        if latency.measured:
            runner.logger.info(
                "Latencies of %s: measured on %s, %s, %s images at a time, %s.",
                latency.source,
                *(latency.measured.get(k, "unknown") for k in ("device", "dtype", "batch_size")),
                latency.measured.get("date", "undated"),
            )
        self._log(runner, alphas, "before the search" if runner.iter == 0 else "so far")

    def after_train_epoch(self, runner) -> None:
        if self.every_n_epochs(runner, self.interval):
            self._log(runner, self._alphas(runner), f"after epoch {runner.epoch + 1}")

    def _log(self, runner, alphas: Mapping[str, torch.Tensor], when: str) -> None:
        with torch.no_grad():
            parts = {n: float(v) for n, v in self.latency.expected(alphas).items()}
        log = {f"latency/{name}": value for name, value in parts.items()}
        log["latency/sum"] = sum(parts.values())
        for key, value in log.items():
            runner.message_hub.update_scalar(f"train/{key}", value)
        runner.visualizer.add_scalars(log, step=runner.iter)
        runner.logger.info(
            "Expected latency %s: %.4g ms (%s)",
            *(when, log["latency/sum"]),
            ", ".join(f"{name} {value:.4g}" for name, value in parts.items()),
        )

    def _alphas(self, runner) -> dict[str, torch.Tensor]:
        return {n: a.detach() for n, a in self._model(runner).alpha_parameters().items()}

    @staticmethod
    def _model(runner):
        return runner.model.module if is_model_wrapper(runner.model) else runner.model
