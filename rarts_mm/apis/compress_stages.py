"""What the stages of ``compress`` do, each in a process of its own."""

import copy
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import Runner

from rarts_mm.analysis import count_flops, environment, latency_of_models
from rarts_mm.files import write_text
from rarts_mm.models.swin_release import convert_on_load

from .config_files import config_text
from .configs import prepare_registries, read_config
from .evaluate import evaluate
from .finding import checkpoint_in
from .input_size import input_size
from .iterations import is_by_iterations
from .max_drop import MaxDrop, choose_ratio
from .plans import Ranking
from .prune import Extras, prune
from .schedule import continued
from .search_checkpoint import read_checkpoint
from .targets import Target
from .train import train, training_config


def train_stage(config: Path, work_dir: Path, resume: bool, options: dict) -> dict:
    cfg = training_config(
        config,
        work_dir=str(work_dir),
        resume="auto" if resume else None,
        options=None if resume else options,
    )
    train(cfg)
    return dict(checkpoint=checkpoint_in(work_dir).name)


def prune_stage(
    config: Path, checkpoint: Path, target: Target, folder: Path, how: Ranking, extras: Extras
) -> dict:
    (result,) = prune(config, checkpoint, [target], out=folder, how=how, extras=extras)
    result.print()
    return dict(summary=result.summary)


def choose_stage(
    config: Path, checkpoint: Path, max_drop: MaxDrop, how: Ranking, out: Path
) -> dict:
    choice = choose_ratio(config, checkpoint, max_drop, how=how)
    choice.table.print()
    choice.table.write(out)
    return dict(ratio=choice.target.amount, summary=choice.summary)


def control_plan(baseline: Path, trained: Sequence[Path], out: Path) -> dict:
    """Write the config that trains the baseline on for the steps of searches and fine-tunings, the last of
    which is a fine-tuning."""
    metas = [read_checkpoint(path)["meta"] for path in trained]
    steps, tuned_meta = sum(meta["iter"] for meta in metas), metas[-1]
    cfg = read_config(baseline)
    if is_by_iterations(cfg.train_cfg):
        epochs, length = None, steps
    else:
        # Rounded up: in doubt the control gets more training than the pruned model.
        length = epochs = -(-steps // _steps_per_epoch(cfg, tuned_meta))
    write_text(out, config_text(continued(cfg, length)))
    return dict(epochs=epochs, steps=steps)


def _steps_per_epoch(cfg: Config, tuned_meta: dict) -> int:
    if tuned_meta["epoch"]:
        return round(tuned_meta["iter"] / tuned_meta["epoch"])
    # The fine-tuning counted iterations only.
    prepare_registries(cfg)
    return len(Runner.build_dataloader(copy.deepcopy(cfg.train_dataloader)))


def evaluate_stage(config: Path, checkpoint: Path, work_dir: Path) -> dict:
    metrics = evaluate(read_config(config), checkpoint, work_dir)
    return {k: float(v) for k, v in metrics.items()}


def costs_stage(models: dict[str, tuple[Path, Path]], size: tuple[int, int] | None) -> dict:
    """Parameters, FLOPs and latency of models, the latency interleaved in one process."""
    built, complexities = {}, {}
    for name, (config, checkpoint) in models.items():
        cfg = read_config(config)
        prepare_registries(cfg)
        size = size or input_size(cfg)
        model_cfg = copy.deepcopy(cfg.model)
        if cfg.get("data_preprocessor") is not None:
            model_cfg.setdefault("data_preprocessor", cfg.data_preprocessor)
        model = MODELS.build(model_cfg)
        # How many boxes a detector finds, and so its latency, depends on the weights.
        state = convert_on_load(read_checkpoint(checkpoint)["state_dict"], model)
        model.load_state_dict(state, strict=False)
        model.train(False)
        built[name] = model
        complexities[name] = count_flops(model, size)
    latencies = latency_of_models(built, size)
    return dict(
        size=list(size),
        environment=environment(model),
        models={
            name: dict(
                parameters=complexities[name].total_parameters,
                flops=complexities[name].total,
                latency_ms=latencies[name].median,
            )
            for name in built
        },
    )
