"""Weights under which a slip shows."""

import torch
from torch import nn


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
