"""Follows which architecture a topology search would derive, epoch by epoch."""

import json
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.model import is_model_wrapper

from rarts_mm.cells.architecture import Architecture, save_architecture
from rarts_mm.files import write_text
from rarts_mm.registry import HOOKS

from .search_hook import SearchHook
from .search_record_hook import SEARCH_RECORD

HISTORY = "genotypes"
RECORD = "genotypes.json"
_BETTER = {"greater": max, "less": min}


@HOOKS.register_module()
class GenotypeHook(SearchHook):
    """After every epoch: the genotype as text, and the share of skip connections in it as scalars.

    Alpha may collapse to skip connections in the course of a search; the share shows when. All epochs'
    genotypes are in every checkpoint and survive resuming. When the search ends, the work dir gets
    ``genotypes.json`` (all of them, and the best one), and of the last one ``genotype.json``,
    ``genotype.txt``, ``cells.png`` and ``cells.svg``.

    Args:
        metric: of validation, that says which epoch's genotype is the best one. To keep that epoch's
            checkpoint too, give CheckpointHook the same: ``save_best='accuracy/top1'``.
        rule: whether the ``'greater'`` or the ``'less'`` value of it is better.
        interval: number of epochs between two lines of text in the log; scalars come every epoch.
    """

    # Before the logger and the checkpoint, so that both contain it.
    priority = "NORMAL"

    def __init__(
        self, metric: str = "accuracy/top1", rule: str = "greater", interval: int = 1
    ) -> None:
        if rule not in _BETTER:
            raise ValueError(f"GenotypeHook: rule must be one of {list(_BETTER)}, got {rule!r}")
        if interval < 1:
            raise ValueError(f"GenotypeHook: interval must be at least 1, got {interval}")
        self.metric, self.rule, self.interval = metric, rule, interval
        self.history: list[dict[str, Any]] = []
        self._missed = False

    def before_train(self, runner) -> None:
        space = getattr(_model(runner), "space", None)
        if not hasattr(space, "derive"):
            raise ValueError(
                f"GenotypeHook: a {type(space).__name__} derives no genotype; take the hook out of "
                "custom_hooks, or search a topology (model.space=dict(type='CellSpace'))"
            )

    def after_train_epoch(self, runner) -> None:
        architecture = _derive(runner)
        epoch = runner.epoch + 1
        # An epoch that a resumed run ends once more replaces its entry.
        self.history = [entry for entry in self.history if entry["epoch"] < epoch]
        shares = {"skip": architecture.skip_share}
        shares |= {f"skip_{cell}": share for cell, share in architecture.skip_shares.items()}
        self.history.append(
            dict(
                epoch=epoch,
                text=architecture.text(),
                genotype=architecture.to_dict(),
                skip_share=architecture.skip_share,
                skip_shares=architecture.skip_shares,
            )
        )
        scalars = {f"genotype/{name}": share for name, share in shares.items()}
        for key, value in scalars.items():
            runner.message_hub.update_scalar(f"train/{key}", value)
        runner.visualizer.add_scalars(scalars, step=runner.iter)
        if self.every_n_epochs(runner, self.interval) or epoch == runner.max_epochs:
            runner.logger.info(
                "Genotype after epoch %d (%s): %s",
                epoch,
                ", ".join(
                    f"{name.replace('_', ' ')} {share:.1%}" for name, share in shares.items()
                ),
                architecture.text(),
            )

    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        if not self.history or self.history[-1]["epoch"] != runner.epoch:
            return
        if self.metric in (metrics or {}):
            self.history[-1]["metric"] = {self.metric: float(metrics[self.metric])}
        elif not self._missed:
            self._missed = True
            runner.logger.warning(
                "GenotypeHook: validation gives no %r (it gives %s), so that no genotype is the best "
                "one; set the hook's metric.",
                self.metric,
                ", ".join(metrics or {}) or "nothing",
            )

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        checkpoint.setdefault(SEARCH_RECORD, {})[HISTORY] = self.history

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        if runner._resume:
            self.history = list(checkpoint.get(SEARCH_RECORD, {}).get(HISTORY, []))

    def after_train(self, runner) -> None:
        if not self.history or not is_main_process():
            return
        folder = Path(runner.work_dir)
        record = dict(best=self.best, history=self.history)
        write_text(folder / RECORD, json.dumps(record, indent=1) + "\n")
        names = save_architecture(_derive(runner), folder)
        runner.logger.info("Wrote %s to %s.", ", ".join([RECORD, *names]), folder)
        if self.best is not None:
            runner.logger.info(
                "Best %s: %g after epoch %d, with %s",
                self.metric,
                self.best["metric"][self.metric],
                *(self.best["epoch"], self.best["text"]),
            )

    @property
    def best(self) -> dict[str, Any] | None:
        """The entry of the epoch that validated best, the first of equals; None without any."""
        validated = [entry for entry in self.history if self.metric in entry.get("metric", {})]
        better = _BETTER[self.rule]
        return better(validated, key=lambda e: e["metric"][self.metric]) if validated else None


def _model(runner):
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def _derive(runner) -> Architecture:
    model = _model(runner)
    return model.space.derive(model.alpha_parameters())
