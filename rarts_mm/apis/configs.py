"""From one config to its neighbours: search -> plain -> pruned."""

import copy
import difflib
import inspect
from collections.abc import Mapping
from keyword import iskeyword
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope, init_default_scope
from mmengine.runner import Runner
from mmengine.utils import import_modules_from_strings

from rarts_mm.engine import SearchHook, alpha_like
from rarts_mm.noise import import_without_noise
from rarts_mm.registry import HOOKS

from .config_files import leave_out_helpers, refuse_pasted_name
from .errors import UsageError
from .iterations import keep_iterations

# What a search config adds to a plain one, and a plain run must not see.
_SEARCH_KEYS = ("finetune", "baseline", "how_to_get")
# A config is a program, and may fail in any of the ways of one.
_UNREADABLE = (
    *(SyntaxError, NameError, AttributeError, TypeError, ValueError, LookupError, ImportError),
    *(OSError, RuntimeError, AssertionError, ArithmeticError, EOFError, MemoryError),
)


def read_config(path: str | Path, options: dict | None = None) -> Config:
    """Read a config file, with ``--cfg-options`` merged in.

    Raises:
        UsageError: no such file, or not a config.
    """
    if not Path(path).is_file():
        raise UsageError(f"config {str(path)!r} does not exist; give the path of a config file")
    refuse_pasted_name(path)
    try:
        cfg = Config.fromfile(path)
        leave_out_helpers(cfg)
        _leave_out_own_scope(list(cfg.values()))
        if is_search(cfg):
            keep_iterations(cfg, path)
    except _UNREADABLE as error:
        reason = f"{type(error).__name__}: {error}"
        raise UsageError(f"config {str(path)!r} cannot be read: {reason}") from error
    if options:
        _check_option_names(cfg, options)
        try:
            cfg.merge_from_dict(options)
        except _UNREADABLE as error:
            raise UsageError(f"--cfg-options do not fit config {str(path)!r}: {error}") from error
    return cfg


def _leave_out_own_scope(part: object) -> None:
    """What MMEngine writes into all parts of a config that is based on one of this package: their classes are
    those of the libraries as much."""
    if isinstance(part, dict):
        if part.get("_scope_") == "rarts_mm":
            del part["_scope_"]
        part = list(part.values())
    if isinstance(part, list | tuple):
        for each in part:
            _leave_out_own_scope(each)


def _check_option_names(cfg: Config, options: dict) -> None:
    """Refuse an option that looks like a misspelt top-level key: it would change nothing."""
    known = {*cfg.keys(), *inspect.signature(Runner.__init__).parameters, *_SEARCH_KEYS}
    for option in options:
        key, *parts = option.split(".")
        # Such a config could not be written down.
        if not key.isidentifier() or "" in parts or any(map(iskeyword, (key, *parts))):
            raise UsageError(
                f"--cfg-options {option}: no key of a config; give names with dots between"
            )
        if key not in known and (near := difflib.get_close_matches(key, known, n=1, cutoff=0.8)):
            raise UsageError(f"--cfg-options {option}: no such key; did you mean {near[0]!r}?")


def prepare_registries(cfg: Config) -> None:
    """Do what the Runner does before it builds: custom imports and the default scope."""
    imports = cfg.get("custom_imports")
    if imports:
        _import(imports)
    scope = cfg.get("default_scope") or "mmengine"
    if not isinstance(scope, str):
        raise UsageError(f"default_scope={scope!r} must be a text, such as 'mmdet'")
    if scope == "mmdet":
        # The registries would, as soon as anything is built.
        import_without_noise("mmdet.datasets")
    current = DefaultScope.get_current_instance()
    if current is None or current.scope_name != scope:
        init_default_scope(scope)


def _import(imports: Mapping) -> None:
    """Import a config's modules, which register what it names.

    Raises:
        UsageError: they are not there, or no names.
    """
    try:
        import_modules_from_strings(**imports)
    except (ImportError, TypeError) as error:
        raise UsageError(
            f"custom_imports={dict(imports)!r} cannot be imported: {error}; correct the names "
            "(custom_imports.imports), or install what they are of"
        ) from error


def _kind(cfg: dict | None) -> str:
    """Name of a config's type without its scope."""
    kind = (cfg or {}).get("type", "")
    return (kind if isinstance(kind, str) else kind.__name__).rpartition(".")[2]


def is_search(cfg: Config) -> bool:
    """Whether a config trains a :class:`~rarts_mm.models.SearchModel`."""
    return _kind(cfg.get("model")) == "SearchModel"


def require_search(cfg: Config, what: str) -> None:
    """Raise unless the config is one of a search."""
    if not is_search(cfg):
        raise UsageError(
            f"{what} is no search config: its model is {_kind(cfg.get('model')) or 'missing'!r}, not "
            "'rarts_mm.SearchModel'. docs/your-own-config.md shows the lines that make one."
        )


def plain_config(search: Config, recipe: str) -> Config:
    """The config that trains a search's architecture in the ordinary way.

    The optimiser is the search's ``optim_wrapper.weights``; the schedule is the search's, epochs and
    all, or that of a base that counts iterations (:func:`~rarts_mm.apis.iterations.keep_iterations`).
    Where the search config has a dict ``finetune`` (or ``baseline``), its entries replace whole
    top-level keys, for instance ``finetune = dict(train_cfg=_base_.train_cfg)``.

    Args:
        search: the search config.
        recipe: ``'finetune'`` or ``'baseline'``.
    """
    require_search(search, str(search.filename or "the config"))
    cfg = copy.deepcopy(search.to_dict())
    overrides = cfg.get(recipe) or {}
    for key in _SEARCH_KEYS:
        cfg.pop(key, None)
    if _kind(cfg.get("model_wrapper_cfg")) == "SearchDistributed":
        cfg.pop("model_wrapper_cfg")
    cfg["model"] = cfg["model"]["architecture"]
    cfg["optim_wrapper"] = cfg["optim_wrapper"]["weights"]
    loop = dict(cfg["train_cfg"], type="EpochBasedTrainLoop")
    for key in ("split", "strict_resume"):
        loop.pop(key, None)
    cfg["train_cfg"] = loop
    cfg["custom_hooks"] = [h for h in cfg.get("custom_hooks") or [] if not _needs_search(h)]
    for key in ("load_from", "work_dir"):
        cfg.pop(key, None)
    cfg["resume"] = False
    cfg.update(overrides)
    # A loader's collate function and the like may be callables; Config keeps them as they are.
    return Config(ConfigDict(cfg))


def _needs_search(hook: dict | Hook) -> bool:
    """Whether a hook, or its config, is one that a plain run must not see."""
    if isinstance(hook, Hook):
        return isinstance(hook, SearchHook)
    kind = hook.get("type", "")
    # A hook whose module is imported later is none of this package's.
    found = HOOKS.get(kind) if isinstance(kind, str) else kind
    return inspect.isclass(found) and issubclass(found, SearchHook)


def with_hook(cfg: Config, hook: dict) -> None:
    """Append a hook to ``custom_hooks`` unless one of its type is there."""
    hooks = list(cfg.get("custom_hooks") or [])
    if _kind(hook) not in {_kind(h) for h in hooks}:
        cfg.custom_hooks = [*hooks, hook]


def switch_amp_on(cfg: Config, dtype: str | None = None) -> None:
    """``--amp``: mixed precision for a plain config as in MMDetection, for a search inside its wrapper.

    Args:
        dtype: ``'float16'`` or ``'bfloat16'``; defaults to float16 on a GPU and to bfloat16 on a CPU,
            where a plain run cannot use AMP at all.
    """
    from mmengine.device import get_device

    on_cpu = get_device() == "cpu"
    if is_search(cfg):
        if not cfg.optim_wrapper.get("amp"):
            cfg.optim_wrapper.amp = dict(dtype=dtype or ("bfloat16" if on_cpu else "float16"))
        return
    if on_cpu:
        raise UsageError(
            "--amp: MMEngine's AmpOptimWrapper needs a GPU and none is visible; leave --amp out"
        )
    cfg.optim_wrapper.type = "AmpOptimWrapper"
    cfg.optim_wrapper.loss_scale = "dynamic"
    if dtype:
        cfg.optim_wrapper.dtype = dtype


def scale_learning_rate(cfg: Config, world_size: int) -> float | None:
    """``auto_scale_lr`` for a search: the weights' rates follow the batch size, alpha's do not.

    MMEngine would scale every optimiser of the search, so the search's rates are scaled in the config
    and MMEngine's own scaling is switched off.

    Returns:
        The factor, or None where nothing was scaled (not enabled, or a plain config).
    """
    scale = cfg.get("auto_scale_lr")
    if not scale or not scale.get("enable") or not is_search(cfg):
        return None
    wrapper = cfg.optim_wrapper
    parts = wrapper.get("accumulative_counts", wrapper.weights.get("accumulative_counts", 1))
    batch_size = world_size * parts * cfg.train_dataloader.batch_size
    factor = batch_size / scale["base_batch_size"]
    if not wrapper.get("alpha"):
        # Alpha's default is the weights' optimiser: write it out before the weights' rate changes.
        wrapper.alpha = alpha_like(wrapper.weights.to_dict())
    wrapper.weights.optimizer.lr *= factor
    scale["enable"] = False
    return factor
