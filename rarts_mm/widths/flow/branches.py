"""Branches that a network runs in training alone, such as auxiliary heads: they read its maps, too."""

from typing import Any

import torch
from torch import nn

from ..running import Forward, call
from .watching import compute, outputs_in


def in_both_modes(forward: Forward | None) -> Forward:
    """A run in evaluation mode and one with the branches of training, of which nothing is random.

    In the second one modules that hold others are in training mode, which code asks for its branches;
    layers (norms, dropout) stay in evaluation mode.
    """

    def run(network: nn.Module, inputs: Any) -> list[Any]:
        outputs = [compute(network, inputs, forward)]
        holders = [m for m in network.modules() if next(m.children(), None) is not None]
        before = [module.training for module in holders]
        try:
            for module in holders:
                module.training = True
            outputs.append((forward or call)(network, inputs))
        finally:
            for module, mode in zip(holders, before, strict=True):
                module.training = mode
        return outputs

    return run


def can_run(network: nn.Module, inputs: Any, forward: Forward) -> bool:
    """Whether such a run ends, and gives the same twice."""
    try:
        with torch.no_grad():
            first, second = (outputs_in(compute(network, inputs, forward)) for _ in range(2))
    # The user's code, which may want labels in training.
    except Exception:
        return False
    same = [each.shape for each in first] == [each.shape for each in second]
    return same and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
