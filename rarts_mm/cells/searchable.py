"""What the search networks of all cell spaces have in common: alpha, and how it becomes weights."""

from collections.abc import Mapping

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from .relaxations import Relaxation, Softmax


class SearchableNetwork(BaseModule):
    """A backbone whose edges hold all operations, weighted by alpha.

    Alpha is not registered here: the space (:class:`~rarts_mm.cells.space.TopologySpace`) makes it and
    this network refers to it. A network that belongs to no search has alpha 0 and a softmax.

    Args:
        shapes: of alpha, (edges, operations) for each kind of cell.

    Attributes:
        shapes: the same.
        stem: the first layers.
        cells: the modules that hold the operations.
        alphas, relaxation: those of the search.
    """

    stem: nn.Sequential
    cells: nn.ModuleList
    alphas: dict[str, Tensor]
    relaxation: Relaxation

    def __init__(self, shapes: Mapping[str, tuple[int, int]], init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.shapes = dict(shapes)
        self.bind({kind: torch.zeros(shape) for kind, shape in shapes.items()}, Softmax())

    def bind(self, alphas: Mapping[str, Tensor], relaxation: Relaxation) -> None:
        """Refer to these scores, of the shapes of :attr:`shapes`, and to this relaxation from now on."""
        # Past nn.Module.__setattr__, which would register them.
        self.__dict__["alphas"] = dict(alphas)
        self.__dict__["relaxation"] = relaxation

    def fit_width(self, relaxation: Relaxation) -> None:
        """Build the edges' operations anew where the relaxation wants another width of them."""
        for cell in self.cells:
            if hasattr(cell, "fit_width"):
                cell.fit_width(relaxation)

    def weights(self, x: Tensor) -> dict[str, Tensor]:
        """The operations' weights for one forward pass, (edges, operations) for each kind of cell."""
        return {
            kind: self.relaxation.weights(alpha.to(x.device)) for kind, alpha in self.alphas.items()
        }

    def enter(self, x: Tensor) -> Tensor:
        """The stem's output, in the memory layout that suits the device."""
        if x.device.type == "cpu":
            # On CPUs convolutions and pools of few channels take half the time so; CUDA's depthwise
            # kernels of full precision would change the layout back in every call.
            x = x.contiguous(memory_format=torch.channels_last)
        return self.stem(x)
