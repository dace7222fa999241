"""The topology search as a search space: what a :class:`~rarts_mm.models.SearchModel` asks of it."""

from collections.abc import Mapping

import torch
from torch import nn

from rarts_mm.registry import SPACES

from .network import EDGES, NORMAL, REDUCTION, DARTSSearchNetwork
from .operations import OPERATIONS


@SPACES.register_module()
class CellSpace:
    """Alpha weighs the operations on the edges of DARTS cells: 14 x 8 for each kind of cell.

    Args:
        init_std: alpha starts at normal random numbers of this standard deviation; the DARTS authors'
            code takes 1e-3.
    """

    def __init__(self, init_std: float = 1e-3) -> None:
        self.init_std = init_std

    def insert(self, network: nn.Module) -> dict[str, nn.Parameter]:
        """Give the search network its alpha, ``'normal'`` and ``'reduce'``."""
        alphas = {
            kind: nn.Parameter(self.init_std * torch.randn(EDGES, len(OPERATIONS)))
            for kind in (NORMAL, REDUCTION)
        }
        self.bind(network, alphas)
        return alphas

    def initialise(self, alphas: Mapping[str, nn.Parameter]) -> None:
        """After the networks' initialisation, which leaves alpha alone: nothing to do."""

    def scored_weights(self, network: nn.Module) -> list[str]:
        """Names of the parameters that a checkpoint must bring: those of the candidate operations."""
        return [
            f"{path}.{name}".lstrip(".")
            for path, module in network.named_modules()
            if isinstance(module, DARTSSearchNetwork)
            for name, _ in module.cells.named_parameters(prefix="cells")
        ]

    def bind(self, network: nn.Module, alphas: Mapping[str, nn.Parameter]) -> None:
        """Let the network refer to the given alpha."""
        found = [m for m in network.modules() if isinstance(m, DARTSSearchNetwork)]
        if len(found) != 1:
            raise ValueError(
                f"CellSpace searches a network with one DARTSSearchNetwork, found {len(found)} in "
                f"{type(network).__name__}; use it as the backbone"
            )
        found[0].bind(alphas)
