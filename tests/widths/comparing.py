"""Shared by the tests of whole networks: random scores, and how far two networks' outputs are apart."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from rarts_mm.widths import insert_scores, masked, rank_scores, scores_of, slice_network


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


def sliced_agrees(
    network: nn.Module,
    *arguments,
    include: str | list[str] = "backbone",
    run: Callable = lambda network, *arguments: network(*arguments),
) -> tuple[nn.Module, dict[str, Tensor]]:
    """Score ``network``, prune 40 %, compare masked and sliced outputs to 1e-10; return both pieces.

    The network's mode stays; whatever it is, all passes start from the same statistics, and draw the
    same random numbers as far as these do not depend on widths.
    """
    alphas = scored(network, include)
    kept = rank_scores(alphas, 0.4)
    sliced = slice_network(copy.deepcopy(network), kept)

    def outputs(network: nn.Module) -> list[Tensor]:
        torch.manual_seed(3)
        with torch.no_grad():
            return flat(run(copy.deepcopy(network), *copy.deepcopy(arguments)))

    whole = outputs(network)
    with masked(alphas, kept):
        expected = outputs(network)
    assert difference(expected, outputs(sliced)) <= 1e-10
    assert difference(whole, expected) > 1e-3
    assert not scores_of(sliced)
    assert sum(p.numel() for p in sliced.parameters()) < sum(
        p.numel() for p in network.parameters()
    )
    return sliced, kept
