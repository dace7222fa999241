"""A group of parameters that one optimiser moves."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer


def fill_missing_gradients_(params: Iterable[Tensor]) -> None:
    """Give every parameter that took no part in the loss the gradient that the loss has there: zero.

    Torch's optimisers pass over parameters whose gradient is None, momentum, decay and all.
    """
    for p in params:
        if p.grad is None:
            p.grad = torch.zeros_like(p)


class Player:
    """A group of parameters that one optimiser moves: w, u or alpha.

    Args:
        params: the leaf tensors, all of which require a gradient.
        optimizer: any torch optimiser over these (its groups may hold frozen parameters besides).
        clip: called without arguments to clip the gradients of ``params`` in place.
    """

    def __init__(
        self,
        params: Sequence[Tensor],
        optimizer: Optimizer,
        clip: Callable[[], None] | None = None,
    ) -> None:
        self.params = list(params)
        self.optimizer = optimizer
        self.clip = clip
        self._index = {id(p): i for i, p in enumerate(self.params)}

    def groups(self) -> Iterator[tuple[dict, list[int]]]:
        """The optimiser's groups, each with the positions of its parameters in ``params``.

        Looked up anew each time, since an optimiser that loads a state gets new groups.
        """
        for group in self.optimizer.param_groups:
            indices = [self._index[id(p)] for p in group["params"] if id(p) in self._index]
            if indices:
                yield group, indices
