"""Trainings that count iterations instead of epochs, and samplers that never end."""

import ast
import copy
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.registry import DATA_SAMPLERS

from .errors import UsageError

RECIPES = ("finetune", "baseline")


def is_by_iterations(loop: Mapping | None) -> bool:
    """Whether a ``train_cfg`` is one of a loop over iterations."""
    return "max_iters" in (loop or {})


def keep_iterations(cfg: Config, path: str | Path) -> None:
    """Write into a search config how long its base trains, where that counts iterations.

    A search counts epochs, so its ``train_cfg`` does not hold the base's any more. Fine-tuning and
    baseline get the base's loop, schedule and interval of checkpoints through ``finetune`` and
    ``baseline``, unless the config has a ``train_cfg`` there; so do all written copies of the config.

    Args:
        cfg: the search config, which is changed.
        path: its file.
    """
    lacking = [recipe for recipe in RECIPES if "train_cfg" not in (cfg.get(recipe) or {})]
    base = _base_with_a_loop(Path(path).absolute()) if lacking else None
    if base is None or not is_by_iterations(base.get("train_cfg")):
        return
    hooks = copy.deepcopy(cfg.get("default_hooks") or {})
    theirs = (base.get("default_hooks") or {}).get("checkpoint") or {}
    hooks["checkpoint"] = {
        "type": "CheckpointHook",
        "interval": base["train_cfg"].get("val_interval", base["train_cfg"]["max_iters"]),
        **theirs,
        "by_epoch": False,
    }
    own = dict(
        train_cfg=base["train_cfg"],
        param_scheduler=base.get("param_scheduler"),
        default_hooks=hooks,
        log_processor=dict(base.get("log_processor") or {}, by_epoch=False),
    )
    for recipe in lacking:
        cfg[recipe] = {**copy.deepcopy(own), **(cfg.get(recipe) or {})}


def refuse_endless(
    cfg: Config, recipe: str | None = None, phases: tuple[str, ...] = ("train", "val")
) -> None:
    """Raise where a loop waits for the end of a sampler that has none.

    Args:
        cfg: a config whose registries have been prepared.
        recipe: ``'finetune'`` or ``'baseline'``, if the config is made of a search's.
        phases: what is looked at.

    Raises:
        UsageError: names the sampler, the loop and the remedy.
    """
    for phase in phases:
        loader, loop = cfg.get(f"{phase}_dataloader"), cfg.get(f"{phase}_cfg")
        if not isinstance(loader, Mapping) or (phase == "train" and is_by_iterations(loop)):
            continue
        name = _name((loop or {}).get("type")) or f"{phase}ing by epochs"
        for key in ("sampler", "batch_sampler"):
            kind = _sampler(loader.get(key))
            # A search takes as many as an epoch has, if it can go on from there in the next.
            if not _endless(kind) or (name == "SearchLoop" and hasattr(kind, "skip")):
                continue
            where = f"{phase}_dataloader.{key}"
            if phase == "train":
                before = f"{recipe} = dict(" if recipe else ""
                remedy = (
                    f"train by iterations, {before}train_cfg=dict(type='IterBasedTrainLoop', "
                    f"max_iters=N){')' if recipe else ''}, or take dict(type='DefaultSampler', "
                    "shuffle=True)"
                )
            else:
                remedy = "take dict(type='DefaultSampler', shuffle=False)"
            of = f"{recipe}: " if recipe else ""
            raise UsageError(
                f"{of}{where}.type={kind.__name__!r} never comes to an end, and {name} waits for it; "
                f"{remedy}"
            )


def _sampler(cfg: Any) -> type | None:
    kind = cfg.get("type") if isinstance(cfg, Mapping) else None
    if isinstance(kind, str):
        with DATA_SAMPLERS.switch_scope_and_registry(cfg.get("_scope_")) as registry:
            kind = registry.get(kind)
    return kind if isinstance(kind, type) else None


def _endless(kind: type | None) -> bool:
    # MMDetection's samplers of several sources are none of MMEngine's.
    return kind is not None and (
        issubclass(kind, InfiniteSampler) or hasattr(kind, "_infinite_indices")
    )


def _name(kind: object) -> str:
    return (kind if isinstance(kind, str) else getattr(kind, "__name__", "")).rpartition(".")[2]


def _base_with_a_loop(path: Path) -> dict[str, Any] | None:
    """What the configs that a file inherits say together; of searches, what those inherit."""
    together: dict[str, Any] = {}
    for base in _bases(path):
        said = Config.fromfile(base).to_dict()
        if _name((said.get("train_cfg") or {}).get("type")) == "SearchLoop":
            return _base_with_a_loop(base)
        together.update(said)
    return together or None


def _bases(path: Path) -> Iterator[Path]:
    """The files that a config names as its bases, in both of MMEngine's ways."""
    if Config._is_lazy_import(str(path)):
        for module in Config._get_base_modules(ast.parse(path.read_text(encoding="utf-8")).body):
            yield _module_file(module, path)
        return
    for name in Config._get_base_files(str(path)):
        file, _ = Config._get_cfg_path(name, str(path))
        yield Path(file)


def _module_file(module: str, importer: Path) -> Path:
    """File of a base that a pure Python config imports."""
    name = module.lstrip(".")
    if level := len(module) - len(name):
        folder = importer.parents[level - 1]
        return folder.joinpath(*name.split(".")).with_suffix(".py")
    return Path(importlib.util.find_spec(name).origin)
