"""What a loss says about every score: its derivative on data, image by image or batch by batch."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .running import show_training_branches


@dataclass(frozen=True)
class Written:
    """A layer whose outputs hold a unit's dimensions.

    Attributes:
        path: of the layer.
        share: part of its outputs that one score stands for.
    """

    path: str
    share: float


@dataclass(frozen=True)
class Derivatives:
    """Means over losses of what the loss changes by, to first order, as a dimension goes.

    Attributes:
        absolute: unit name -> (size,) mean of \\|alpha dL/dalpha\\|.
        square: unit name -> (size,) mean of (alpha dL/dalpha)^2.
        memory: unit name -> elements of the maps that one dimension takes, a mean over losses; empty where
            the layers are not known.
        count: number of losses.
    """

    absolute: Mapping[str, Tensor]
    square: Mapping[str, Tensor]
    memory: Mapping[str, float]
    count: int


def measure_derivatives(
    network: nn.Module,
    alphas: Mapping[str, Tensor],
    losses: Iterable[Callable[[], Tensor]],
    written: Mapping[str, Iterable[Written]] | None = None,
) -> Derivatives:
    """Differentiate losses with respect to the scores of a network.

    Only the scores' derivatives are computed, none of a weight. The network is in the state of
    :func:`~rarts_mm.widths.running.show_training_branches`, in which losses can be computed and no layer
    draws random numbers or changes its statistics.

    Args:
        network: a network with scores; its parameters are not wanted with gradients afterwards.
        alphas: unit name -> the scores that it refers to.
        losses: each returns a scalar computed by the network.
        written: unit name -> the layers whose outputs have its dimensions.

    Raises:
        ValueError: no losses, a loss that is not finite, or one that depends on no score.
    """
    show_training_branches(network)
    network.requires_grad_(False)
    for alpha in alphas.values():
        alpha.requires_grad_(True)
    absolute = {name: torch.zeros(a.shape, dtype=torch.float64) for name, a in alphas.items()}
    square = {name: torch.zeros_like(each) for name, each in absolute.items()}
    count = 0
    with _Memory(network, written or {}) as memory:
        for loss in losses:
            value = loss()
            _check(value, count)
            found = torch.autograd.grad(value, list(alphas.values()), allow_unused=True)
            for (name, alpha), gradient in zip(alphas.items(), found, strict=True):
                if gradient is not None:
                    change = (alpha.detach() * gradient).to("cpu", torch.float64)
                    absolute[name] += change.abs()
                    square[name] += change.square()
            count += 1
    if not count:
        raise ValueError("There are no data to differentiate the loss on.")
    return Derivatives(
        {name: each / count for name, each in absolute.items()},
        {name: each / count for name, each in square.items()},
        {name: elements / count for name, elements in memory.elements.items()},
        count,
    )


def taylor(derivatives: Derivatives) -> dict[str, Tensor]:
    """What the loss changes by as a dimension goes, to first order: the mean of \\|alpha dL/dalpha\\|.

    All channels of a group go together, whose scores' derivative is the sum over the places that read them
    (Molchanov et al., "Pruning Convolutional Neural Networks for Resource Efficient Inference", ICLR 2017,
    eq. 7, with the gates of "Importance Estimation for Neural Network Pruning", CVPR 2019). Compared over
    the whole network, without a normalisation by layers.
    """
    return dict(derivatives.absolute)


def group_fisher(derivatives: Derivatives) -> dict[str, Tensor]:
    """The mean of (alpha dL/dalpha)^2 over images, over the memory that the channel's maps take.

    Half of it is the change of the loss to second order with Fisher's information in place of the Hessian
    (Liu et al., "Group Fisher Pruning for Practical Network Compression", ICML 2021, eqs. 5 to 8).
    """
    return {
        name: square / max(derivatives.memory[name], 1.0)
        for name, square in derivatives.square.items()
    }


# Criteria that need data.
FROM_DATA: dict[str, Callable[[Derivatives], dict[str, Tensor]]] = {
    "taylor": taylor,
    "fisher": group_fisher,
}


def _check(value: Tensor, number: int) -> None:
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise ValueError(f"A loss must be a tensor with one number, got {type(value).__name__}.")
    if not value.requires_grad:
        raise ValueError("The loss depends on no score: it was not computed by the given network.")
    if not bool(value.isfinite().all()):
        raise ValueError(
            f"The loss is {value.item()} on number {number} of the data, so there is nothing to rank by."
        )


class _Memory:
    """Counts elements of outputs while a network runs."""

    def __init__(self, network: nn.Module, written: Mapping[str, Iterable[Written]]) -> None:
        self.elements = dict.fromkeys(written, 0.0)
        self._network, self._written = network, written
        self._handles: list = []

    def __enter__(self) -> "_Memory":
        for name, layers in self._written.items():
            for layer in layers:
                module = self._network.get_submodule(layer.path)
                hook = self._counting(name, layer.share)
                self._handles.append(module.register_forward_hook(hook))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _counting(self, name: str, share: float) -> Callable[..., None]:
        def count(module: nn.Module, args: tuple, out: Tensor) -> None:
            self.elements[name] += out.numel() * share

        return count
