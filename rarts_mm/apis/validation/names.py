"""Misspelt keys and types: what a part of a config may hold is what its class takes.

To add a part: a line in ``_CALLS`` where a ``type`` names what takes the keys, or in ``_KEYS`` where
they are fixed.
"""

import difflib
import inspect
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from mmengine import registry as registries
from mmengine.registry import DefaultScope, Registry
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmengine.utils import get_object_from_string
from torch.utils.data import DataLoader

from rarts_mm.engine import RARTSOptimWrapper
from rarts_mm.models import SearchModel
from rarts_mm.registry import SPACES

from .walk import Setting, dicts, matches

_SCOPE = "_scope_"


class _Call(NamedTuple):
    """A part of a config whose ``type`` is built.

    Attributes:
        pattern: which parts.
        registry: where the type is registered.
        more: keys that others than the class read.
        given: arguments that the config does not give.
        default: the type where none is named; None: then the part is left alone.
        certain: whether nothing else could read the part; other types are left alone.
    """

    pattern: str
    registry: Registry
    more: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    default: str | None = None
    certain: bool = True


_OPTIM_WRAPPER = dict(
    registry=registries.OPTIM_WRAPPERS,
    more=("constructor", "paramwise_cfg"),
    default="OptimWrapper",
)
_DATA = dict(registry=registries.DATASETS)

_CALLS = [
    _Call("train_cfg", registries.LOOPS, ("by_epoch",), ("runner", "dataloader")),
    _Call("val_cfg", registries.LOOPS, (), ("runner", "dataloader", "evaluator")),
    _Call("test_cfg", registries.LOOPS, (), ("runner", "dataloader", "evaluator")),
    _Call("optim_wrapper", **_OPTIM_WRAPPER),
    _Call("optim_wrapper.weights", **_OPTIM_WRAPPER),
    _Call("optim_wrapper.alpha", **_OPTIM_WRAPPER),
    _Call("optim_wrapper.**.optimizer", registries.OPTIMIZERS, (), ("params",)),
    _Call(
        "param_scheduler", registries.PARAM_SCHEDULERS, ("convert_to_iter_based",), ("optimizer",)
    ),
    _Call("param_scheduler.*", registries.PARAM_SCHEDULERS, ("convert_to_iter_based",)),
    _Call("default_hooks.*", registries.HOOKS, ("priority",)),
    _Call("custom_hooks", registries.HOOKS, ("priority",)),
    _Call("visualizer", registries.VISUALIZERS),
    _Call("visualizer.vis_backends", registries.VISBACKENDS),
    _Call("log_processor", registries.LOG_PROCESSORS, default="LogProcessor"),
    _Call("*_evaluator", registries.METRICS, certain=False),
    _Call("*_dataloader.sampler", registries.DATA_SAMPLERS, (), ("dataset", "seed")),
    _Call("*_dataloader.batch_sampler", registries.DATA_SAMPLERS, (), ("sampler", "batch_size")),
    _Call("*_dataloader.dataset", **_DATA),
    _Call("*_dataloader.dataset.**.dataset", **_DATA),
    _Call("*_dataloader.dataset.**.datasets", **_DATA),
    _Call("*_dataloader.dataset.**.pipeline", registries.TRANSFORMS, certain=False),
    _Call("model.space", SPACES),
    _Call("model", registries.MODELS, ("data_preprocessor",)),
    _Call("model.architecture", registries.MODELS, ("data_preprocessor",)),
    _Call("model.**", registries.MODELS, certain=False),
]

# Parts of a model that are read, and changed, by functions of the libraries before something is built.
_READ_BY_OTHERS = ("*_cfg", "*cfg", "plugins", "dcn", "cfg", "arch")


def _arguments(function: Callable, *left_out: str) -> set[str]:
    return {
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        and name not in left_out
    }


_LOADER = _arguments(DataLoader) | {"num_batch_per_epoch", "disable_subprocess_warning"}
_CLIPPING = {"type"}.union(
    *(
        _arguments(function, "parameters")
        for function in (torch.nn.utils.clip_grad_norm_, torch.nn.utils.clip_grad_value_)
    )
)
_KEYS: list[tuple[str, set[str]]] = [
    ("*_dataloader", _LOADER),
    ("optim_wrapper.**.clip_grad", _CLIPPING),
    ("randomness", _arguments(Runner.set_randomness, "self")),
    ("env_cfg", {"cudnn_benchmark", "mp_cfg", "dist_cfg", "resource_limit"}),
    ("env_cfg.mp_cfg", {"mp_start_method", "opencv_num_threads"}),
    ("auto_scale_lr", {"enable", "base_batch_size"}),
    ("train_cfg.split", {"ratio", "seed"}),
    ("custom_imports", {"imports", "allow_failed_imports"}),
]
_SEARCH_OPTIM_WRAPPER = _arguments(RARTSOptimWrapper) | {"weights", "alpha", "constructor"}
_SEARCH_MODEL = _arguments(SearchModel) | {"data_preprocessor"}


def wrong_names(cfg: dict) -> Iterator[str]:
    """A sentence for every key and every type that nothing reads."""
    scopes: list[tuple[str, str]] = []
    for part in dicts(cfg):
        if isinstance(part.value.get(_SCOPE), str):
            scopes.append((part.name, part.value[_SCOPE]))
        # That of the innermost part around it, as when it is built.
        around = [scope for name, scope in scopes if f"{part.name}.".startswith(f"{name}.")]
        scope = around[-1] if around else None
        fixed = next((keys for pattern, keys in _KEYS if matches(pattern, part.path)), None)
        if fixed is not None:
            yield from _unknown(part, fixed, "")
            continue
        call = next((call for call in _CALLS if matches(call.pattern, part.path)), None)
        if call is not None and not any(
            matches(f"model.**.{name}.**", part.path) for name in _READ_BY_OTHERS
        ):
            yield from _check_call(part, call, scope)


def _check_call(part: Setting, call: _Call, scope: str | None) -> Iterator[str]:
    kind = part.value.get("type", call.default)
    if kind is None:
        if part.path[0] == "default_hooks":
            yield _untyped_hook(part)
        elif call.pattern == "train_cfg" and "by_epoch" not in part.value:
            yield (
                "train_cfg has neither type nor by_epoch, which say how training is counted; for "
                "example train_cfg.by_epoch=True train_cfg.max_epochs=12"
            )
        elif call.pattern == "train_cfg":
            loop = EpochBasedTrainLoop if part.value["by_epoch"] else IterBasedTrainLoop
            known = _arguments(loop, *call.given) | {"by_epoch"}
            yield from _unknown(part, known, loop.__name__)
        return
    if not isinstance(kind, str) and not callable(kind):
        yield f"{part.name}.type={kind!r} must be the name of a class; give {part.name}.type=NAME"
        return
    found = _find(call.registry, kind, scope) if isinstance(kind, str) else kind
    if found is None:
        yield from _unknown_type(part, kind, call, scope)
        return
    known, cutoff = _keys_of(found)
    if part.path[0] == "model":
        cutoff = max(cutoff, _IN_MODELS)
    if known is not None:
        known = (known | set(call.more)) - set(call.given)
        yield from _unknown(part, known, found.__name__, cutoff)


def _unknown_type(part: Setting, kind: str, call: _Call, scope: str | None) -> Iterator[str]:
    if not call.certain and _find(registries.TASK_UTILS, kind, scope) is not None:
        return
    names = _registered(call.registry, scope)
    cutoff = 0.6 if call.certain else _IN_MODELS
    near = difflib.get_close_matches(kind.rpartition(".")[2], names, n=3, cutoff=cutoff)
    hint = _IMPORTS
    if near:
        hint = f"did you mean {' or '.join(repr(names[name]) for name in near)}?"
    elif len(names) <= _FEW:
        hint = f"known are {', '.join(map(repr, sorted(names)))}"
    if near or call.certain:
        yield f"{part.name}.type={kind!r} is no registered {call.registry.name}; {hint}"


# What is around a part of a model may take a key out of it, but none so near to another.
_IN_MODELS = 0.85
# MMEngine's classes that take any key do nothing with those that they do not know.
_IN_ANYTHING = 0.7
_FEW = 12
_IMPORTS = "add the module that registers it to custom_imports, or correct the name"


def _untyped_hook(part: Setting) -> str:
    known = ("runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint")
    near = difflib.get_close_matches(part.path[-1], known, n=1)
    hint = f"did you mean 'default_hooks.{near[0]}'?" if near else "give its class as type"
    return f"{part.name} has no type, and so names no hook; {hint}"


@lru_cache(maxsize=1024)
def _find_in(registry: Registry, kind: str, scope: str) -> Any:
    with registry.switch_scope_and_registry(scope) as inner:
        return inner.get(kind)


def _find(registry: Registry, kind: str, scope: str | None) -> Any:
    if registry.parent is None and registry is SPACES:
        return SPACES.get(kind)
    current = DefaultScope.get_current_instance()
    scope = scope or (current.scope_name if current is not None else "mmengine")
    # A name of another scope is asked for in its own registry.
    first, dot, rest = kind.partition(".")
    if not dot or registry.root._search_child(first) is None:
        return _find_in(registry, kind, scope)
    # Or it is the whole name of a class, which a pure Python config is written with.
    return _find_in(registry, rest, first) or get_object_from_string(kind)


def _registered(registry: Registry, scope: str | None) -> dict[str, str]:
    """Bare name of every registered class -> the name that a config in this scope gives it."""
    if registry is SPACES:
        return {name: name for name in SPACES.module_dict}
    current = DefaultScope.get_current_instance()
    scope = scope or (current.scope_name if current is not None else "mmengine")
    names = {}
    for prefix, child in registry.root.children.items():
        names |= {name: f"{prefix}.{name}" for name in child.module_dict}
    with registry.switch_scope_and_registry(scope) as inner:
        for each in (registry.root, inner):
            names |= {name: name for name in each.module_dict}
    return names


def _keys_of(found: Any) -> tuple[set[str] | None, float]:
    """What a class or function takes, None where it takes anything; and how near a misspelt key is."""
    if inspect.isclass(found) and issubclass(found, RARTSOptimWrapper):
        return _SEARCH_OPTIM_WRAPPER, 0.0
    if found is SearchModel:
        return _SEARCH_MODEL, 0.0
    try:
        parameters = inspect.signature(found).parameters.values()
    except (ValueError, TypeError):
        return None, 0.0
    if not any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters):
        return {p.name for p in parameters}, 0.0
    if not (inspect.isclass(found) and found.__module__.startswith("mmengine.")):
        return None, 0.0
    bases = [base for base in found.__mro__ if "__init__" in vars(base) and base is not object]
    return set().union(*(_arguments(base.__init__, "self") for base in bases)), _IN_ANYTHING


def _unknown(part: Setting, known: set[str], taker: str, cutoff: float = 0.0) -> Iterator[str]:
    """A sentence for every key that is not known; with a cutoff, only for those so near to one."""
    for key in part.value:
        # Private keys are MMEngine's own marks.
        if key in known or key == "type" or str(key).startswith("_"):
            continue
        name, of = f"{part.name}.{key}", f" of {taker}" if taker else ""
        others = known - set(part.value) if cutoff >= _IN_MODELS else known
        near = difflib.get_close_matches(str(key), others, n=1, cutoff=cutoff or 0.6)
        if near or not cutoff:
            hint = f"did you mean {near[0]!r}? " if near else ""
            yield f"unknown key {name}{of}; {hint}known are {', '.join(_shown(known))}"


def _shown(names: set[str]) -> list[str]:
    names = sorted(names)
    return names if len(names) <= 30 else [*names[:30], "..."]
