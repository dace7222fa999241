"""Shared by the tests of whole networks: random scores, and how far two networks' outputs are apart."""

import torch
from torch import Tensor, nn

from rarts_mm.widths import insert_scores


def scored(network: nn.Module, include: str | list[str] = "backbone") -> dict[str, nn.Parameter]:
    """Insert random scores, about half of them negative."""
    alphas = insert_scores(network, include=include)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for alpha in alphas.values():
            alpha.copy_(torch.randn(alpha.shape, generator=generator))
    return alphas


def randomised(network: nn.Module) -> nn.Module:
    """Random weights, norms, biases and running statistics."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, value in network.state_dict().items():
            if not value.is_floating_point():
                continue
            noise = torch.randn(value.shape, generator=generator)
            if key.endswith("running_var"):
                noise = noise.abs() + 0.1
            elif value.ndim > 1:
                noise = noise / value[0].numel() ** 0.5
            value.copy_(noise)
    return network


def flat(out) -> list[Tensor]:
    """The tensors in nested outputs."""
    return [t for part in out for t in flat(part)] if isinstance(out, list | tuple) else [out]


def difference(first, second) -> float:
    """max |difference| / max |first|, of the worst output."""
    pairs = zip(flat(first), flat(second), strict=True)
    return max(((a - b).abs().max() / a.abs().max()).item() for a, b in pairs)
