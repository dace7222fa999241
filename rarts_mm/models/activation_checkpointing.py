"""Activation checkpointing that alpha's gradients survive."""

import difflib
import functools
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from rarts_mm.search import frozen_statistics


def checkpoint_activations(network: nn.Module, names: Sequence[str] = ()) -> list[str]:
    """Let modules forget their activations in the forward pass and compute them again for the backward.

    Covers the modules of these names and those whose ``with_cp`` is on (the libraries' own switch).
    It is torch's non-reentrant kind: the reentrant one, which ``with_cp`` and MMEngine's
    ``activation_checkpointing`` use, gives a gradient to a module's inputs and weights only if an
    input requires one, and drops alpha's in silence. The second forward pass leaves running
    statistics alone, so that every batch counts once.

    Args:
        network: changed in place.
        names: paths of modules below ``network``, such as ``'backbone.stages.0'``.

    Returns:
        The names of the modules that are checkpointed now.

    Raises:
        ValueError: no module of such a name.
    """
    modules = dict(network.named_modules())
    for name in names:
        if name not in modules or not name:
            near = difflib.get_close_matches(name, modules, n=3, cutoff=0.3)
            raise ValueError(
                f"model.activation_checkpointing: {name!r} is no module of "
                f"{type(network).__name__}; near it are {near}"
            )
    switched = [name for name, m in modules.items() if getattr(m, "with_cp", False) is True]
    for name in switched:
        modules[name].with_cp = False
    # A backbone hands its switch on to its blocks: only they are meant.
    inner = [n for n in switched if not any(o != n and _below(o, n) for o in switched)]
    chosen = sorted({*names, *inner})
    for name in chosen:
        _checkpoint_forward(modules[name])
    return chosen


def _below(name: str, ancestor: str) -> bool:
    return not ancestor or name.startswith(f"{ancestor}.")


def _checkpoint_forward(module: nn.Module) -> None:
    # A partial of the module, not a closure: a deep copy of the module calls itself, not the original.
    forward = functools.partial(_forward, module, vars(module).get("forward"))
    # For those who look whether a layer computes what its class does.
    forward.same_function = True
    module.forward = forward


def _forward(module: nn.Module, own: Callable | None, *args, **kwargs):
    forward = own or functools.partial(type(module).forward, module)
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)

    def contexts() -> tuple:
        return nullcontext(), frozen_statistics(module)

    return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)
