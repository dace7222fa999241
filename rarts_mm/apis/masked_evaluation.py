"""The validation metrics of a search's network with its lowest scores at zero, before it is sliced."""

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.runner import Runner
from torch import Tensor

from rarts_mm.noise import LibraryNoise
from rarts_mm.search import AUXILIARY
from rarts_mm.widths import masked, scores_of

from .errors import UsageError
from .preflight import check_files, check_metrics
from .search_checkpoint import Search


class MaskedEvaluation:
    """Evaluates one search's network under many choices of what stays, with the config's own metrics.

    Args:
        search: the search.
        work_dir: folder for the runner's logs.
        option: the option that asks for it, for messages.

    Raises:
        UsageError: the config has no validation data, or they are missing.
    """

    def __init__(self, search: Search, work_dir: Path, option: str) -> None:
        cfg = copy.deepcopy(search.cfg)
        if not cfg.get("val_evaluator") or not cfg.get("val_dataloader"):
            raise UsageError(
                f"{option}: {search.cfg.filename or 'the config'} has no validation data "
                "(val_dataloader, val_evaluator)"
            )
        cfg.model.update(networks=1, keep=AUXILIARY)
        cfg.load_from, cfg.resume = None, False
        cfg.work_dir = str(work_dir)
        check_files(cfg, phases=("val",))
        check_metrics(cfg, ("val",))
        self._runner = Runner.from_cfg(cfg)
        self._runner.logger.addFilter(LibraryNoise())
        self._runner.model.load_state_dict(search.model.state_dict())
        network = self._runner.model.kept
        self._runner.model.space.move_to_readers(network)
        self._alphas = scores_of(network)

    def __call__(self, kept: Mapping[str, Tensor] | None = None) -> dict[str, float]:
        """All metrics of the network in which only ``kept`` (by default everything) stays."""
        if kept is None:
            kept = {name: torch.arange(alpha.numel()) for name, alpha in self._alphas.items()}
        with masked(self._alphas, kept):
            metrics = self._runner.val()
        return {name: float(value) for name, value in metrics.items()}
