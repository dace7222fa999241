"""What several settings must be together. To add a relation: a function of the config that yields sentences."""

import difflib
import importlib.util
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.registry import MODELS
from mmengine.runner import Runner

# What the Runner wants together, or not at all.
_TOGETHER = [
    ("train_dataloader", "train_cfg", "optim_wrapper"),
    ("val_dataloader", "val_cfg", "val_evaluator"),
    ("test_dataloader", "test_cfg", "test_evaluator"),
]
# Keys at the top, misspelt, would change nothing.
_RUNNER = {*inspect.signature(Runner.__init__).parameters} - {"self", "cfg"}
_ALIKE = 0.87
_SCOPES = ("mmengine", "mmdet", "mmpretrain", "rarts_mm")


def unknown_scope(cfg: Mapping[str, Any]) -> Iterator[str]:
    """A sentence where names would be looked up nowhere: MMEngine would only warn."""
    scope = cfg.get("default_scope")
    if scope is None or scope in ("mmengine", *MODELS.children):
        return
    if not scope.isidentifier() or importlib.util.find_spec(scope) is None:
        near = difflib.get_close_matches(scope, _SCOPES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"give one of {', '.join(_SCOPES)}"
        yield f"default_scope={scope!r} is no package that can be imported; {hint}"


def wrong_together(cfg: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for every relation that does not hold."""
    yield from _search_without_parts(cfg)
    yield from _misspelt_at_the_top(cfg)
    yield from _nothing_learns(cfg)


def missing_partners(cfg: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for what the Runner wants together and does not get."""
    for names in _TOGETHER:
        there = [name for name in names if cfg.get(name) is not None]
        if there and len(there) < len(names):
            absent = [name for name in names if name not in there]
            yield (
                f"{' and '.join(there)} without {' and '.join(absent)}: give all of "
                f"{', '.join(names)}, or none"
            )


def _search_without_parts(cfg: Mapping[str, Any]) -> Iterator[str]:
    kind = (cfg.get("model") or {}).get("type")
    if getattr(kind, "__name__", str(kind)).rpartition(".")[2] != "SearchModel":
        return
    if not isinstance(cfg["model"].get("architecture"), Mapping):
        yield (
            f"model.architecture={cfg['model'].get('architecture')!r} must be a dict: the model that is "
            "searched, such as architecture=_base_.model"
        )
    if "optim_wrapper" in cfg and "weights" not in (cfg["optim_wrapper"] or {}):
        yield (
            "optim_wrapper.weights is missing: give the base config's optim_wrapper, "
            "weights=_base_.optim_wrapper"
        )


def _misspelt_at_the_top(cfg: Mapping[str, Any]) -> Iterator[str]:
    for key in cfg:
        near = difflib.get_close_matches(key, _RUNNER - set(cfg), n=1, cutoff=_ALIKE)
        if key not in _RUNNER and near:
            yield f"unknown key {key}, which nothing would read; did you mean {near[0]!r}?"


def learning_rates(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Full name of every optimiser's learning rate -> the rate."""
    wrapper = cfg.get("optim_wrapper")
    found = {}
    if isinstance(wrapper, Mapping):
        parts = {"": wrapper} | {f".{k}": v for k, v in wrapper.items() if isinstance(v, Mapping)}
        for name, part in parts.items():
            optimizer = part.get("optimizer")
            if isinstance(optimizer, Mapping) and "lr" in optimizer:
                found[f"optim_wrapper{name}.optimizer.lr"] = optimizer["lr"]
    return found


def _nothing_learns(cfg: Mapping[str, Any]) -> Iterator[str]:
    rates = learning_rates(cfg)
    if rates and not any(rates.values()) and not _rises_from_zero(cfg):
        yield (
            f"{' and '.join(f'{name}={rate!r}' for name, rate in rates.items())}: with a learning rate "
            "of 0 nothing would ever move, and the training change nothing; give one such as 0.01"
        )


def resting(cfg: Mapping[str, Any]) -> list[str]:
    """A sentence for each player of a search whose learning rate is 0, which may be meant."""
    rates = learning_rates(cfg)
    if not any(rates.values()) or _rises_from_zero(cfg):
        return []
    return [
        f"{name}={rate!r}: what it moves will stay as it is"
        for name, rate in rates.items()
        if not rate
    ]


def _rises_from_zero(cfg: Mapping[str, Any]) -> bool:
    """Whether a schedule has rates of its own, so that the optimiser's is not the last word."""

    def find(value: Any) -> bool:
        if isinstance(value, Mapping):
            return bool(value.get("eta_max")) or any(map(find, value.values()))
        return isinstance(value, list | tuple) and any(map(find, value))

    return find(cfg.get("param_scheduler"))
