"""The search networks as their formulas say: every operation of every edge by itself, then the sum."""

from collections.abc import Mapping

import torch
from torch import Tensor

from rarts_mm.cells import DARTSSearchNetwork, NATSSearchNetwork
from rarts_mm.cells.nats.network import NATSSearchCell


def literal_forward(
    network: DARTSSearchNetwork | NATSSearchNetwork, x: Tensor, alphas: Mapping[str, Tensor]
) -> Tensor:
    """What the network's own forward pass returns, from its modules, with nothing shared.

    Args:
        network: its modules are used (and count the batch); its alpha and relaxation are not.
        x: (N, in_channels, H, W).
        alphas: (edges, operations) for each kind of cell; softmax makes weights of it.
    """
    forward = _darts if isinstance(network, DARTSSearchNetwork) else _nats
    return forward(network, x, alphas)


def _darts(network: DARTSSearchNetwork, x: Tensor, alphas: Mapping[str, Tensor]) -> Tensor:
    before = last = network.stem(x)
    for cell in network.cells:
        states = [cell.fit_before(before), cell.fit_last(last)]
        rows = iter(zip(cell.edges, alphas[cell.kind].softmax(-1), strict=True))
        for _ in range(cell.nodes):
            states.append(sum(_edge(*next(rows), state) for state in list(states)))
        before, last = last, torch.cat(states[2:], dim=1)
    return last


def _nats(network: NATSSearchNetwork, x: Tensor, alphas: Mapping[str, Tensor]) -> Tensor:
    x = network.stem(x)
    for cell in network.cells:
        if not isinstance(cell, NATSSearchCell):
            x = cell(x)
            continue
        nodes = [x]
        rows = iter(zip(cell.edges, alphas["cell"].softmax(-1), strict=True))
        for _ in range(3):
            nodes.append(sum(_edge(*next(rows), node) for node in list(nodes)))
        x = nodes[-1]
    return network.end(x)


def _edge(edge: torch.nn.Module, weights: Tensor, x: Tensor) -> Tensor:
    return sum(w * operation(x) for w, operation in zip(weights, edge.operations, strict=True))
