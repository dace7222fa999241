"""What a search asks of the thing that it searches."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor

AUXILIARY = "auxiliary"  # w in the papers: weights trained on the half D_a
PRIMARY = "primary"  # u in the papers ("y" in IEEE Access 2022): weights trained on the half D_p
ALPHA = "alpha"  # the architecture parameters, shared by both networks
SYMBOLS = {AUXILIARY: "w", PRIMARY: "u", ALPHA: "alpha"}


class Problem(ABC):
    """Two losses of weights and alpha, on one pair of batches.

    A problem lives for one step: every call of :meth:`loss` during a step sees the same two batches
    (thesis, eq. 2.12 and Algorithm 2), but makes a forward pass of its own. A batch may come in
    parts (micro-batches), so that only one part's activations are in memory at a time.
    """

    @abstractmethod
    def loss(self, network: str, half: str, part: int = 0) -> Tensor:
        """Return the scalar loss of one network on one part of one half's batch, with its graph.

        Args:
            network: ``'auxiliary'`` (w) or ``'primary'`` (u): whose weights.
            half: ``'auxiliary'`` (L_a on the batch of D_a) or ``'primary'`` (L_p on the batch of D_p).
            part: which part of the batch, the position in :meth:`shares`.
        """

    def shares(self, half: str) -> Sequence[float]:
        """The share of each part in the batch's loss; they sum to 1."""
        del half
        return (1.0,)

    def frozen_statistics(self, network: str) -> AbstractContextManager:
        """Context in which forward and backward passes leave the network's running statistics alone.

        Passes that only serve alpha see a batch that already counted in the weights' sub-step.
        """
        del network
        return nullcontext()

    def full_precision(self) -> AbstractContextManager:
        """Context in which losses are computed without mixed precision."""
        return nullcontext()
