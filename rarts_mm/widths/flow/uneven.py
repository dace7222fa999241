"""Weights under which a slip shows."""

import copy
from typing import Any

import torch
from torch import nn

from ..running import Forward
from .watching import compute, outputs_in


def make_uneven(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give a network random weights, biases and statistics, none of them zero or one, in place.

    Freshly initialised networks have scales of zero, biases of zero and attentions that weigh all alike:
    whole branches of them could be cut wrongly, and nobody would see it.

    Returns:
        ``network``.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
            if not tensor.is_floating_point() or not tensor.numel():
                continue
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            # Sums of as many products are of the order of one.
            scale = tensor[0].numel() ** -0.5 if tensor.dim() > 1 else 0.5
            if name.endswith("running_var"):
                noise = noise.abs() + 0.6
            tensor.copy_((noise * scale).to(tensor.device))
    return network


def uneven_copy(network: nn.Module, inputs: Any, forward: Forward | None) -> nn.Module:
    """The network with uneven weights; as it is where it does not compute numbers with them."""
    other = make_uneven(copy.deepcopy(network))
    try:
        with torch.no_grad():
            outputs = outputs_in(compute(other, inputs, forward))
    # Code may look at values, which are others now.
    except (RuntimeError, ValueError, IndexError, AssertionError):
        return network
    return other if all(bool(each.isfinite().all()) for each in outputs) else network
