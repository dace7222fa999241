"""Small things are built on trial: their own classes know best which settings they refuse."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.registry import OPTIMIZERS, PARAM_SCHEDULERS
from torch import nn
from torch.utils.data import DataLoader

from rarts_mm.engine.amp import parse_amp
from rarts_mm.engine.constructor import check_rules
from rarts_mm.registry import ALTERNATIONS, PENALTIES
from rarts_mm.search import Lagrangian

from .walk import Setting, dicts, matches

# What classes raise at settings that they refuse.
_REFUSALS = (ValueError, TypeError, AssertionError, ArithmeticError, LookupError, AttributeError)
# Steps that a schedule is tried for.
_STEPS = 3
_LOADER = ("num_workers", "prefetch_factor", "timeout", "persistent_workers", "pin_memory")


def refused_settings(cfg: Mapping) -> Iterator[str]:
    """A sentence for every optimiser, schedule and data loader that refuses its settings."""
    for part in dicts(cfg):
        if part.path == ("optim_wrapper",) and "weights" in part.value:
            yield from _try_search(part)
        elif matches("optim_wrapper.**.optimizer", part.path):
            yield from _try_optimizer(part)
        elif part.path[0] == "param_scheduler" and "type" in part.value:
            yield from _try_scheduler(part)
        elif len(part.path) == 1 and part.path[0].endswith("_dataloader"):
            yield from _try_loader(part)


def _try_search(part: Setting) -> Iterator[str]:
    """The rules of a search: its optimisers would only be built when the run has written its config."""
    settings = copy.deepcopy(dict(part.value))
    try:
        check_rules(settings)
        penalties = settings.get("penalty") or ()
        penalties = [penalties] if isinstance(penalties, Mapping) else penalties
        ALTERNATIONS.build(settings.get("alternation", dict(type="RARTS")))
        Lagrangian(
            settings.get("lam", 1.0),
            settings.get("beta", 0.1),
            tuple(PENALTIES.build(penalty) for penalty in penalties),
            settings.get("coupling", "gradient"),
        )
        parse_amp(settings.get("amp"), "cpu")
    except _REFUSALS as error:
        text = str(error)
        yield text if text.startswith("optim_wrapper") else f"optim_wrapper: {text}"


def _try_optimizer(part: Setting) -> Iterator[str]:
    settings = copy.deepcopy(dict(part.value))
    if "optimizer_class" in settings or "optimizer_type" in settings:
        # One that wraps another needs all processes.
        return
    # As they are named by constructors that go by the layer.
    settings["params"] = [dict(params=[nn.Parameter(torch.zeros(1))])]
    try:
        OPTIMIZERS.build(settings)
    except _REFUSALS as error:
        yield _sentence(part, error)


def _try_scheduler(part: Setting) -> Iterator[str]:
    settings = copy.deepcopy(dict(part.value))
    by_iteration = not settings.get("by_epoch", True) or settings.get("convert_to_iter_based")
    settings.setdefault("end", max(1, settings.get("begin", 0) + 1))
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    for group in optimizer.param_groups:
        group.setdefault("gamma_factor", 1.0)
    settings["optimizer"] = optimizer
    if by_iteration:
        settings["epoch_length"] = 1
    try:
        scheduler = PARAM_SCHEDULERS.build(settings)
        if getattr(scheduler, "need_val_args", False):
            return
        for _ in range(_STEPS):
            optimizer.step()
            scheduler.step()
    except _REFUSALS as error:
        yield _sentence(part, error)


def _try_loader(part: Setting) -> Iterator[str]:
    given: Mapping[str, Any] = {k: part.value[k] for k in _LOADER if k in part.value}
    workers = given.get("num_workers", 0)
    if workers == 0:
        for key in ("persistent_workers", "prefetch_factor"):
            if given.get(key):
                yield (
                    f"{part.name}.{key}={given[key]!r} needs {part.name}.num_workers >= 1, which is "
                    f"{workers}: there are no workers to keep. Leave it out, or give num_workers=2"
                )
                return
    try:
        DataLoader([0], **given)
    except _REFUSALS as error:
        yield _sentence(part, error)


def _sentence(part: Setting, error: Exception) -> str:
    kind = part.value.get("type", "the data loader")
    kind = getattr(kind, "__name__", kind)
    told = ", ".join(f"{k}={v!r}" for k, v in part.value.items() if k not in ("type", "dataset"))
    if part.value.get("lr", 0) is None:
        return f"{part.name}.lr=None: {kind} needs a learning rate; for example {part.name}.lr=0.01"
    reason = str(error).strip().splitlines()
    return (
        f"{part.name}: {kind} refuses these settings ({told}): "
        f"{reason[0] if reason else type(error).__name__}"
    )
