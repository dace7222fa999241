"""The configs of the players' optimisers: what is checked, taken over and translated in them."""

import copy
import difflib
import inspect
from collections.abc import Mapping

from mmengine.registry import OPTIMIZERS
from torch import nn


def check_member(name: str, cfg: object) -> None:
    """Refuse what MMEngine would only stumble over when it builds a player's optimiser."""
    optimizer = cfg.get("optimizer") if isinstance(cfg, Mapping) else None
    if not isinstance(optimizer, Mapping):
        found = f".optimizer={optimizer!r}" if isinstance(cfg, Mapping) else f"={cfg!r}"
        raise ValueError(
            f"optim_wrapper.{name}{found} is no config: give an ordinary optim_wrapper, such as "
            f"{name}=dict(optimizer=dict(type='SGD', lr=0.01)), or the base config's, "
            f"{name}=_base_.optim_wrapper"
        )
    kind = optimizer.get("type")
    if callable(kind):
        return
    with OPTIMIZERS.switch_scope_and_registry(None) as registry:
        known = {*OPTIMIZERS.module_dict, *registry.module_dict}
        if isinstance(kind, str) and registry.get(kind) is not None:
            return
    near = difflib.get_close_matches(str(kind), known, n=3, cutoff=0.3) or ["SGD", "AdamW"]
    raise ValueError(
        f"optim_wrapper.{name}.optimizer.type={kind!r} is no registered optimiser; near it are "
        f"{near}. Choose one, or add the module that registers it to custom_imports"
    )


def in_names_of_alpha(cfg: dict, alphas: Mapping[str, nn.Parameter]) -> dict:
    """Let ``custom_keys`` speak of alpha with dots; its parameters are named with slashes."""
    keys = (cfg.get("paramwise_cfg") or {}).get("custom_keys") or {}
    if not keys:
        return cfg
    if not isinstance(keys, Mapping):
        raise ValueError(
            f"optim_wrapper.alpha.paramwise_cfg.custom_keys={keys!r} must be a dict, from parts of the "
            "units' names to settings such as dict(lr_mult=0.1)"
        )
    for key in keys:
        # MMEngine asks in this way, with a dot before names at the top.
        if not any(_slashed(key) in f".{_slashed(name)}" for name in alphas):
            shown = [*alphas][:4]
            more = f" and {len(alphas) - len(shown)} more" if len(alphas) > len(shown) else ""
            raise ValueError(
                f"optim_wrapper.alpha.paramwise_cfg.custom_keys: {key!r} is part of no alpha's name and "
                f"would change nothing; the names are {', '.join(map(repr, shown))}{more}. Correct it, "
                "or leave it out (keys for the weights belong into optim_wrapper.weights)"
            )
    cfg = copy.deepcopy(cfg)
    cfg["paramwise_cfg"]["custom_keys"] = {_slashed(key): value for key, value in keys.items()}
    return cfg


def _slashed(name: str) -> str:
    return name.replace(".", "/")


def without_amp(weights: dict, name: str = "weights") -> tuple[dict, dict | None]:
    """Split a plain optim_wrapper config into one without AMP and the search's ``amp`` config.

    Args:
        weights: the config of a player's optimiser.
        name: its key in the search's ``optim_wrapper``.
    """
    weights = copy.deepcopy(weights)
    kind = weights.get("type", "OptimWrapper")
    # A class in configs of the new style, and perhaps with a scope in those of the old one.
    kind = kind.rpartition(".")[2] if isinstance(kind, str) else kind.__name__
    if kind == "OptimWrapper":
        return weights, None
    if kind != "AmpOptimWrapper":
        raise ValueError(
            f"optim_wrapper.{name}.type={kind!r}: the search steps its optimisers by itself and "
            "knows OptimWrapper and AmpOptimWrapper"
        )
    weights["type"] = "OptimWrapper"
    amp = dict(
        dtype=weights.pop("dtype", None) or "float16",
        loss_scale=weights.pop("loss_scale", "dynamic"),
    )
    if weights.pop("use_fsdp", False):
        raise ValueError("use_fsdp: a search needs whole networks on every process; remove it")
    return weights, amp


def alpha_like(weights: dict) -> dict:
    """The weights' optimiser for alpha: no weight decay, no clipping, no per-parameter settings."""
    optimizer = copy.deepcopy(weights["optimizer"])
    kind = optimizer["type"]
    cls = OPTIMIZERS.get(kind) if isinstance(kind, str) else kind
    # A few have no weight decay (Rprop); the others may have one by default (AdamW).
    if cls is None or "weight_decay" in inspect.signature(cls).parameters:
        optimizer["weight_decay"] = 0.0
    return dict(type="OptimWrapper", optimizer=optimizer)
