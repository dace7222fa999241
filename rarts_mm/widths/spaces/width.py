"""The width search as a search space: what a :class:`~rarts_mm.models.SearchModel` asks of it."""

import math
from collections.abc import Mapping

from torch import nn

from rarts_mm.registry import SPACES

from ..layers.shared_scores import SharedScores
from ..naming import Names
from ..scores import bind_scores, find_units, insert_scores
from ..unit import LeftOut, Unit


@SPACES.register_module()
class WidthSpace:
    """Alpha scores the inner dimensions of layers (SiDT, thesis section 4.3), or their channels (4.2).

    A score stands where zero removes its dimension exactly: see the adapters.

    Args:
        include: what is scored: the path of a submodule such as ``'backbone'``, the name of a unit, a
            pattern of names, or several of these.
        exclude: what is not, in the same way: ``'*.bn1'`` leaves one place of a PreResNet out.
        init: initial value of every score.

    Raises:
        ValueError: by its methods, where ``include`` or ``exclude`` name nothing in the network.
    """

    def __init__(self, include: Names = "backbone", exclude: Names = (), init: float = 1.0) -> None:
        if not isinstance(init, int | float) or not math.isfinite(init):
            raise ValueError(f"The initial score must be a finite number, got {init!r}.")
        self.include = include
        self.exclude = exclude
        self.init = init

    def units(self, network: nn.Module) -> tuple[list[Unit], list[LeftOut]]:
        """The units that are scored in a network, with or without scores, and what is left out."""
        return find_units(network, self.include, self.exclude)

    def refusals(self, network: nn.Module) -> dict[str, str]:
        """Unit -> why ``insert`` would refuse a network without scores because of it."""
        del network
        return {}

    def insert(self, network: nn.Module) -> dict[str, nn.Parameter]:
        """Put scores into a network; return alpha by unit name (not registered in the network)."""
        return insert_scores(network, self.include, self.init, self.exclude)

    def initialise(self, alphas: Mapping[str, nn.Parameter]) -> None:
        """After the networks' initialisation, which leaves these scores alone: nothing to do."""

    def scored_weights(self, network: nn.Module) -> list[str]:
        """Names of the weights beside which alpha stands, in a network with scores."""
        return [
            f"{path}.weight" if path else "weight"
            for path, layer in network.named_modules()
            if isinstance(layer, SharedScores)
        ]

    def bind(self, network: nn.Module, alphas: Mapping[str, nn.Parameter]) -> None:
        """Let the scores of another copy of the network be the given ones."""
        bind_scores(network, alphas)

    def move_to_readers(self, network: nn.Module) -> None:
        """After the search: let the network's scores stand where zero removes a dimension, in place.

        The function stays the same. Here they stand there already; other spaces move them.
        """
