"""Evaluate a model with its config's own test data and metrics."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from mmengine.config import Config
from mmengine.evaluator import DumpResults
from mmengine.fileio import dump
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from rarts_mm.checkpoint_reader import check_checkpoint
from rarts_mm.engine import (
    CheckpointKindHook,
    DataHook,
    ProgressHook,
    RecomputeStatisticsHook,
    unwrapped,
)
from rarts_mm.files import atomic_write
from rarts_mm.models.fit import UNKNOWN, listed, misfits
from rarts_mm.noise import LibraryNoise
from rarts_mm.progress import is_followed

from .config_files import refuse_templates
from .configs import is_search, prepare_registries
from .empty_data import naming_empty_data_sets
from .errors import UsageError
from .iterations import refuse_endless
from .preflight import check_files, check_metrics, require_test
from .processes import join_processes
from .tta import BoxesAloneHook, with_tta
from .validation import check_config, check_launcher


class _FitHook(Hook):
    """Raises unless a checkpoint, as it is about to be loaded, has every entry of the model.

    MMEngine itself would only warn and test random weights. Last of all hooks, so that those which
    convert checkpoints have done so; what the model's own layers rename on loading is renamed.
    """

    priority = "LOWEST"

    def __init__(self, checkpoint: str | Path) -> None:
        self.checkpoint = checkpoint

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        model = unwrapped(runner.model)
        state = checkpoint.get("state_dict", checkpoint)
        # Published files have more than the model, such as an average of the weights.
        if problems := [p for p in misfits(model, state) if not p.endswith(UNKNOWN)]:
            raise UsageError(self._message(problems))

    def _message(self, problems: list[str]) -> str:
        return "\n".join(
            [
                f"checkpoint {self.checkpoint} does not fit the model of the config:",
                *listed(problems, 6),
                "Give the config that belongs to this checkpoint; a pruned one needs its pruned.py",
            ]
        )


class _WholeResultsHook(Hook):
    """Lets predictions be written whole or not at all (``DumpResults``, of every library)."""

    def before_test(self, runner) -> None:
        for metric in runner.test_evaluator.metrics:
            if isinstance(metric, DumpResults):
                metric.compute_metrics = partial(_write_whole, metric.out_file_path)


@contextmanager
def _config_beside_its_log() -> Iterator[None]:
    """Lets a Runner write its config into the folder of its log, not into the work dir.

    A test's work dir often is the training's, whose config has the same file name, and is needed as it is
    to resume and to prune.
    """

    def dump_config(runner: Runner) -> None:
        name = Path(runner.cfg.filename or "config.py").name
        runner.cfg.dump(str(Path(runner.log_dir) / name))

    original, Runner.dump_config = Runner.dump_config, dump_config
    try:
        yield
    finally:
        Runner.dump_config = original


def _write_whole(path: str, results: list) -> dict:
    with atomic_write(path) as temporary:
        dump(results, temporary)
    print_log(f"Predictions have been saved to {path}.", logger="current")
    return {}


def evaluate(
    cfg: Config,
    checkpoint: str | Path,
    work_dir: str | Path,
    precise_bn: int | None = None,
    tta: bool = False,
) -> dict[str, float]:
    """Test a checkpoint; returns the metrics of the config's ``test_evaluator``.

    Args:
        precise_bn: recompute batch norm statistics from this many training images first; the
            checkpoint stays as it is.
        tta: test with several views of each image, see :func:`~rarts_mm.apis.tta.with_tta`.

    Raises:
        UsageError: no test data, missing files, a checkpoint that does not fit the model, or no
            training data to recompute statistics from.
    """
    check_launcher(cfg.get("launcher", "none"))
    cfg = copy.deepcopy(cfg)
    prepare_registries(cfg)
    require_test(cfg)
    check_config(cfg, complete=True)
    refuse_endless(cfg, phases=("test",))
    cfg.work_dir = str(work_dir)
    cfg.load_from, cfg.resume = None, False
    if precise_bn is not None and not cfg.get("train_dataloader"):
        raise UsageError(
            f"--precise-bn {precise_bn}: the config has no train_dataloader to take images from"
        )
    recompute = None if precise_bn is None else RecomputeStatisticsHook(precise_bn)
    check_files(cfg, phases=("test",) if recompute is None else ("train", "test"))
    check_metrics(cfg, ("test",))
    refuse_templates(cfg)
    # Missing or damaged: better known before the model and the data are built.
    check_checkpoint(checkpoint)
    if tta:
        cfg = with_tta(cfg)
    elif is_search(cfg):
        cfg.setdefault("model_wrapper_cfg", dict(type="rarts_mm.SearchDistributed"))
    join_processes(cfg)
    with _config_beside_its_log():
        runner = RUNNERS.build(cfg) if "runner_type" in cfg else Runner.from_cfg(cfg)
    runner.logger.addFilter(LibraryNoise())
    runner.register_hook(DataHook())
    runner.register_hook(_WholeResultsHook())
    runner.register_hook(CheckpointKindHook())
    runner.register_hook(_FitHook(checkpoint))
    if tta:
        runner.register_hook(BoxesAloneHook())
    if recompute is not None:
        runner.register_hook(recompute)
    if is_followed():
        runner.register_hook(ProgressHook())
    cfg.load_from = runner._load_from = str(checkpoint)
    with naming_empty_data_sets():
        return runner.test()
