"""The width search as a search space: what a :class:`~rarts_mm.models.SearchModel` asks of it."""

from collections.abc import Mapping

from torch import nn

from rarts_mm.registry import SPACES

from .scored_inputs import ScoredInputs
from .scored_linear import ScoredLinear
from .scores import bind_scores, insert_scores


@SPACES.register_module()
class WidthSpace:
    """Alpha scores the inner dimensions of layers (SiDT, thesis section 4.3).

    Args:
        include: where layers are looked for: the path of a submodule such as ``'backbone'``.
        init: initial value of every score.
    """

    def __init__(self, include: str = "backbone", init: float = 1.0) -> None:
        self.include = include
        self.init = init

    def insert(self, network: nn.Module) -> dict[str, nn.Parameter]:
        """Put scores into a network; return alpha by unit name (not registered in the network)."""
        return insert_scores(network, include=self.include, init=self.init)

    def scored_weights(self, network: nn.Module) -> list[str]:
        """Names of the weights beside which alpha stands, in a network with scores."""
        return [
            f"{path}.weight" if path else "weight"
            for path, layer in network.named_modules()
            if isinstance(layer, ScoredLinear | ScoredInputs)
        ]

    def bind(self, network: nn.Module, alphas: Mapping[str, nn.Parameter]) -> None:
        """Let the scores of another copy of the network be the given ones."""
        bind_scores(network, alphas)
