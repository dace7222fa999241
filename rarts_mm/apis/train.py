"""Train a config: a search, a baseline or a pruned model."""

import os
from contextlib import nullcontext
from pathlib import Path

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from rarts_mm import preemption
from rarts_mm.checkpoint_reader import check_checkpoint
from rarts_mm.engine import (
    PreemptionHook,
    ProgressHook,
    checkpoint_to_resume,
    has_saved,
    resume_from_whole_file,
    use_resumable_loop,
)
from rarts_mm.files import atomic_write, is_remote
from rarts_mm.locks import locked, refuse_if_locked
from rarts_mm.noise import LibraryNoise
from rarts_mm.progress import is_followed

from .config_files import refuse_templates
from .configs import (
    is_search,
    prepare_registries,
    read_config,
    scale_learning_rate,
    switch_amp_on,
    with_hook,
)
from .empty_data import naming_empty_data_sets
from .errors import UsageError
from .finding import next_command
from .iterations import refuse_endless
from .preflight import check_files, check_metrics, check_work_dir
from .processes import is_first_process, join_processes
from .validation import check_config, check_launcher


def training_config(
    config: str | Path,
    work_dir: str | None = None,
    resume: str | None = None,
    amp: bool = False,
    auto_scale_lr: bool = False,
    options: dict | None = None,
    launcher: str = "none",
) -> Config:
    """Read a config and apply the options of ``tools/train.py``; checks what can be checked.

    Args:
        config: path of the config file.
        work_dir: where logs and checkpoints go; defaults to the config's, then
            ``work_dirs/<name of the config>``.
        resume: None, ``'auto'`` (the latest checkpoint of the work dir) or a checkpoint's path.
        options: ``--cfg-options``.

    Raises:
        UsageError: with the value, the reason and the remedy.
        FolderInUseError: another run writes into the work dir.
    """
    check_launcher(launcher)
    cfg = read_config(config, options)
    cfg.launcher = launcher
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get("work_dir") is None:
        cfg.work_dir = str(Path("work_dirs") / Path(config).stem)
    if "optim_wrapper" not in cfg or "train_cfg" not in cfg or "model" not in cfg:
        raise UsageError(f"{config} has no model, train_cfg or optim_wrapper: nothing to train")
    prepare_registries(cfg)
    check_config(cfg, complete=True)
    refuse_endless(cfg)
    if amp:
        switch_amp_on(cfg)
    if auto_scale_lr:
        if "base_batch_size" not in (cfg.get("auto_scale_lr") or {}):
            raise UsageError(
                f"--auto-scale-lr: {config} has no auto_scale_lr.base_batch_size, so the batch size "
                "that its learning rate was made for is unknown"
            )
        cfg.auto_scale_lr.enable = True
    if resume == "auto":
        # Until something was saved, a run that is resumed starts as it would without.
        cfg.resume = has_saved(cfg.work_dir)
        if cfg.resume:
            cfg.load_from = None
        else:
            start = f"load_from={cfg.load_from}" if cfg.get("load_from") else "the beginning"
            if int(os.environ.get("RANK", 0)) == 0:
                print(f"--resume: {cfg.work_dir} has no checkpoint yet; starting from {start}.")
    elif resume is not None:
        cfg.resume, cfg.load_from = True, resume
    if is_first_process(launcher):
        refuse_if_locked(cfg.work_dir)
    check_work_dir(cfg.work_dir, resume=resume is not None or bool(cfg.get("resume")))
    check_files(cfg)
    check_metrics(cfg, ("val",))
    refuse_templates(cfg)
    if start := cfg.get("load_from"):
        # Whether it is one at all: better known before the data are read. Several processes first have
        # to agree on one that downloads.
        if cfg.get("resume"):
            checkpoint_to_resume(cfg.work_dir, start)
        elif not is_remote(start) or launcher == "none":
            check_checkpoint(start)
    with_hook(cfg, dict(type="rarts_mm.NonFiniteLossHook"))
    with_hook(cfg, dict(type="rarts_mm.CheckpointKindHook"))
    with_hook(cfg, dict(type="rarts_mm.CheckpointFilesHook"))
    with_hook(cfg, dict(type="rarts_mm.CheckpointFitHook"))
    with_hook(cfg, dict(type="rarts_mm.DataHook"))
    if is_search(cfg):
        # Without it the Runner would wrap the search in DistributedDataParallel, which cannot
        # alternate.
        cfg.setdefault("model_wrapper_cfg", dict(type="rarts_mm.SearchDistributed"))
        if names := cfg.pop("activation_checkpointing", None):
            # MMEngine's kind would leave alpha without a gradient.
            names = [names] if isinstance(names, str) else names
            cfg.model.activation_checkpointing = list(names)
    return cfg


class _ConfigHook(Hook):
    """Puts the config of a work dir back if the run that has written a new one makes no step.

    MMEngine writes it when it builds the Runner, before a checkpoint to resume is read.
    """

    def __init__(self, cfg: Config) -> None:
        self.path = Path(cfg.work_dir) / Path(cfg.filename or "none.py").name
        self.content = self.path.read_bytes() if self.path.is_file() else None

    def after_train_iter(self, *_: object, **__: object) -> None:
        self.content = None

    def put_back(self) -> None:
        if self.content is not None and int(os.environ.get("RANK", 0)) == 0:
            with atomic_write(self.path) as temporary:
                temporary.write_bytes(self.content)


def train(cfg: Config) -> Runner:
    """Build the runner of a config and train.

    The work dir is this run's alone meanwhile, see :func:`~rarts_mm.locks.locked`.

    Raises:
        FolderInUseError: another run writes there.
        UsageError: another run has written there since the config was checked.
    """
    first = is_first_process(cfg.get("launcher", "none"))
    with locked(cfg.work_dir) if first else nullcontext():
        if first:
            check_work_dir(cfg.work_dir, resume=bool(cfg.get("resume")))
        runner = _train(cfg)
    if first and is_search(cfg) and not is_followed() and has_saved(cfg.work_dir):
        print(f"next: {next_command(cfg)}")
    return runner


def _train(cfg: Config) -> Runner:
    prepare_registries(cfg)
    join_processes(cfg)
    factor = scale_learning_rate(cfg, int(os.environ.get("WORLD_SIZE", 1)))
    written = _ConfigHook(cfg)
    try:
        return _run(cfg, factor, written)
    finally:
        # However it ends; once a step was made there is nothing to put back.
        written.put_back()


def _run(cfg: Config, factor: float | None, written: _ConfigHook) -> Runner:
    runner = RUNNERS.build(cfg) if "runner_type" in cfg else Runner.from_cfg(cfg)
    runner.register_hook(written)
    runner.logger.addFilter(LibraryNoise())
    if factor is not None:
        runner.logger.info("Learning rates of the weights scaled by %g; alpha's stays.", factor)
    # The loop of a search does so too, as it can also be run by the libraries' own tools.
    if not is_search(cfg):
        resume_from_whole_file(runner)
        use_resumable_loop(runner)
    runner.register_hook(PreemptionHook())
    if is_followed():
        runner.register_hook(ProgressHook())
    with naming_empty_data_sets(), preemption.heeded():
        runner.train()
    return runner
