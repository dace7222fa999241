"""What a run of a comparison is made of, by the functions of the command lines: train, test."""

import itertools
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner

from rarts_mm.apis import evaluate, plain_config, read_config, training_config
from rarts_mm.apis import train as train_config
from rarts_mm.apis.configs import prepare_registries
from rarts_mm.apis.preflight import check_files
from rarts_mm.apis.search_checkpoint import Search
from rarts_mm.files import atomic_write, write_text
from rarts_mm.registry import ALTERNATIONS, MODELS
from rarts_mm.search import ALPHA, PRIMARY

ALPHA_OPTIMIZER = "optim_wrapper.alpha"

_numbers = itertools.count()


def prepare(configs: Iterable[Config], splits: Sequence[str] = ("train", "val", "test")) -> None:
    """Before the workers start: every config's files must be there; what all import is imported once.

    Raises:
        ValueError: files are missing; nothing has been written then.
    """
    for cfg in configs:
        check_files(cfg, splits)
        prepare_registries(cfg)
    import mmpretrain.models  # noqa: F401


def lengths(
    config: str | Path, data: str | None, epochs: int | None, finetune_epochs: int | None
) -> dict:
    """Options of a search's config: where the data are, and how long search and fine-tuning take.

    Nobody looks at validation meanwhile, and the last state is the result. None: as in the config.
    """
    cfg = read_config(config)
    options: dict = {}
    if data:
        for phase in ("train", "val", "test"):
            options[f"{phase}_dataloader.dataset.data_root"] = data
    epochs = epochs or cfg.train_cfg.max_epochs
    if epochs != cfg.train_cfg.max_epochs:
        options |= {
            "train_cfg.max_epochs": epochs,
            "param_scheduler": [dict(s, end=epochs) for s in cfg.param_scheduler],
        }
    options |= {
        "train_cfg.val_interval": epochs + 1,
        "default_hooks.checkpoint.interval": epochs,
    }
    tuning = cfg.finetune
    length = finetune_epochs or tuning.train_cfg.max_epochs
    return options | {
        "finetune.train_cfg.max_epochs": length,
        "finetune.train_cfg.val_interval": length + 1,
        "finetune.param_scheduler": [dict(s, end=length) for s in tuning.param_scheduler],
        "finetune.default_hooks.checkpoint.interval": length,
    }


def alpha_at(cfg: Config, rate: float) -> dict:
    """Option: alpha's optimiser, the weights' without weight decay, at a rate of its own."""
    optimizer = dict(cfg.optim_wrapper.weights.optimizer.to_dict(), lr=rate, weight_decay=0.0)
    return {ALPHA_OPTIMIZER: dict(type="OptimWrapper", optimizer=optimizer)}


def search_config(
    config: str | Path, alternation: str, seed: int, test_on: str, options: dict
) -> Config:
    """The config of a search by an alternation, and only that.

    Args:
        config: of a search by any alternation.
        alternation: name of the registered alternation, with its default arguments.
        seed: of the halves, the batches and whatever else is drawn.
        test_on: the split that is tested on.
        options: further settings.
    """
    rule = ALTERNATIONS.get(alternation)
    cfg = read_config(config, {"log_level": "ERROR", **options})
    cfg.model.networks = 2 if PRIMARY in rule.players else 1
    # Not merged: arguments of the config's own alternation are not this one's.
    cfg.optim_wrapper.alternation = dict(type=alternation)
    for key in {"lam", "beta"} - rule.uses:
        cfg.optim_wrapper.pop(key, None)
    if ALPHA not in rule.players:
        cfg.optim_wrapper.penalty = None
        cfg.optim_wrapper.pop("alpha", None)
    cfg.train_cfg.split = dict(cfg.train_cfg.split, seed=seed)
    cfg.randomness = dict(cfg.get("randomness") or {}, seed=seed)
    cfg.test_dataloader.dataset.data_prefix = test_on
    cfg.custom_hooks = []
    return cfg


def write_initial_weights(search: Config, seed: int, path: Path) -> Path:
    """Write the weights that every search of a seed starts from."""
    cfg = plain_config(search, "baseline")
    prepare_registries(cfg)
    torch.manual_seed(seed)
    network = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    network.init_weights()
    with atomic_write(path) as temporary:
        torch.save(dict(state_dict=network.state_dict()), temporary)
    return path


def write_whole(search: Search, folder: Path) -> tuple[Path, Path]:
    """Write config and weights that fine-tune a searched network whole: nothing but the pruning is missing."""
    config, weights = folder / "whole.py", folder / "whole.pth"
    with atomic_write(weights) as temporary:
        torch.save(dict(state_dict=search.model.kept.state_dict()), temporary)
    cfg = plain_config(search.cfg, "finetune")
    cfg.load_from = str(weights)
    cfg.work_dir = str(folder / "finetune")
    write_text(config, cfg.pretty_text)
    return config, weights


def train(config: Path, work_dir: Path | None = None, options: dict | None = None) -> Runner:
    """Train a config, as ``tools/train.py`` does."""
    cfg = training_config(config, work_dir=work_dir and str(work_dir), options=options)
    return train_config(named(cfg))


def train_and_test(config: Path, work_dir: Path | None = None, options: dict | None = None) -> dict:
    """Train a plain config: its error in % on the test data, the steps and the processor time."""
    start = time.process_time()
    runner = train(config, work_dir, options)
    seconds = time.process_time() - start
    return dict(error=error(runner.test()), finetune_seconds=seconds, finetune_steps=runner.iter)


def finetune(config: Path, weights: Path) -> dict:
    """Test, fine-tune and test again: :func:`train_and_test` and ``error_before``."""
    before = evaluate(named(read_config(config)), weights, config.parent / "before")
    return dict(error_before=error(before), **train_and_test(config))


def named(cfg: Config) -> Config:
    """The config with a name of its own, and quicker to write."""
    # MMEngine keeps one logger and one visualizer per name for the whole process, and its own names
    # are as exact as a second.
    cfg.experiment_name = f"run{next(_numbers)}"
    # Formatted for nobody: it would take a third of the whole comparison's time.
    return Config(cfg._cfg_dict, filename=cfg.filename, format_python_code=False)


def error(metrics: dict[str, float]) -> float:
    """In %."""
    return 100.0 - float(metrics["accuracy/top1"])
