"""The topology search as a search space: what a :class:`~rarts_mm.models.SearchModel` asks of it."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from rarts_mm.registry import RELAXATIONS, SPACES

from .derivation import derive
from .genotype import Genotype
from .network import DARTSSearchNetwork
from .searchable import SearchableNetwork


class TopologySpace:
    """Alpha weighs the operations on the edges of cells.

    Args:
        init_std: alpha starts at normal random numbers of this standard deviation; the DARTS authors'
            code takes 1e-3.
        relaxation: config of how alpha becomes weights, such as ``dict(type='Sigmoid')``.

    Attributes:
        network: the type of search network that the space is of.
        relaxation: the :class:`~rarts_mm.cells.relaxations.Relaxation`.
    """

    network: ClassVar[type[SearchableNetwork]]

    def __init__(self, init_std: float = 1e-3, relaxation: Mapping | None = None) -> None:
        self.init_std = init_std
        self.relaxation = RELAXATIONS.build(relaxation or dict(type="Softmax"))

    def insert(self, network: nn.Module) -> dict[str, nn.Parameter]:
        """Give the search network its alpha: a parameter for each kind of cell."""
        found = self._find(network)
        found.fit_width(self.relaxation)
        alphas = {
            kind: nn.Parameter(self.init_std * torch.randn(shape))
            for kind, shape in found.shapes.items()
        }
        found.bind(alphas, self.relaxation)
        return alphas

    def initialise(self, alphas: Mapping[str, nn.Parameter]) -> None:
        """After the networks' initialisation, which leaves alpha alone: nothing to do."""

    def scored_weights(self, network: nn.Module) -> list[str]:
        """Names of the parameters that a checkpoint must bring: those of the candidate operations."""
        return [
            f"{path}.{name}".lstrip(".")
            for path, module in network.named_modules()
            if isinstance(module, self.network)
            for name, _ in module.cells.named_parameters(prefix="cells")
        ]

    def bind(self, network: nn.Module, alphas: Mapping[str, nn.Parameter]) -> None:
        """Let the network refer to the given alpha."""
        self._find(network).bind(alphas, self.relaxation)

    def check_batch(self, network: nn.Module, size: int) -> None:
        """Before a search.

        Args:
            network: one of the search's.
            size: images of one forward pass in one process.

        Raises:
            ValueError: batch norms would see single images.
        """
        # Synchronised ones see those of all processes.
        alone = any(type(m) is nn.BatchNorm2d for m in network.modules())
        if size == 1 and alone:
            raise ValueError(
                "train_dataloader.batch_size=1: batch norms would normalise every image by itself in "
                "training and by running statistics in validation. Use batches of at least 2 images "
                "(of one part, where optim_wrapper.accumulative_counts splits them)"
            )

    def _find(self, network: nn.Module) -> SearchableNetwork:
        found = [m for m in network.modules() if isinstance(m, self.network)]
        if len(found) != 1:
            raise ValueError(
                f"{type(self).__name__} searches a network with one {self.network.__name__}, found "
                f"{len(found)} in {type(network).__name__}; use it as the backbone"
            )
        return found[0]


@SPACES.register_module()
class CellSpace(TopologySpace):
    """Alpha weighs the operations on the edges of DARTS cells: 14 x 8 for each kind of cell.

    The arguments are those of :class:`TopologySpace`.
    """

    network = DARTSSearchNetwork

    def derive(self, alphas: Mapping[str, Tensor]) -> Genotype:
        """The genotype of these scores."""
        return derive(alphas, self.relaxation)
