"""Branches that a network runs in training alone, such as auxiliary heads: they read its maps, too."""

from typing import Any

import torch
from torch import nn

from ..running import MISFITS, Forward, call, show_training_branches
from .watching import compute, outputs_in


def in_both_modes(forward: Forward | None) -> Forward:
    """A run in evaluation mode and one with the branches of training."""

    def run(network: nn.Module, inputs: Any) -> list[Any]:
        outputs = [compute(network, inputs, forward)]
        before = {module: module.training for module in network.modules()}
        try:
            show_training_branches(network)
            outputs.append((forward or call)(network, inputs))
        finally:
            for module, mode in before.items():
                module.training = mode
        return outputs

    return run


def can_run(network: nn.Module, inputs: Any, forward: Forward) -> bool:
    """Whether such a run ends, and gives the same twice."""
    try:
        with torch.no_grad():
            first, second = (outputs_in(compute(network, inputs, forward)) for _ in range(2))
    # In training it may want labels, which are None then.
    except MISFITS:
        return False
    same = [each.shape for each in first] == [each.shape for each in second]
    return same and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
