"""How alpha becomes weights of the operations: one class per relaxation.

A relaxation is independent of the alternation, which only sees a loss that depends on alpha.
"""

from abc import ABC, abstractmethod

from torch import Tensor

from rarts_mm.registry import RELAXATIONS


class Relaxation(ABC):
    """Turns alpha, a row per edge and a column per operation, into the operations' weights.

    Only :meth:`weights` must be given. The other methods are there for relaxations that also have a
    say in how an edge mixes (partial channels: PC-DARTS), that draw at random (Gumbel gates), or that
    change in the course of a search (a temperature).
    """

    @abstractmethod
    def weights(self, alpha: Tensor) -> Tensor:
        """(edges, operations) -> the weights of one forward pass, of the same shape.

        Called once per forward pass for each kind of cell, with gradients. All cells of the kind
        share the result, so that what is drawn here at random is one draw per pass.
        """

    def scores(self, alpha: Tensor) -> Tensor:
        """(edges, operations) -> what operations are ranked by, without randomness.

        The genotype is derived from these, and the expected latency is their product with the table.
        """
        return self.weights(alpha)

    def set_progress(self, done: float) -> None:
        """Hear before each epoch which part of the search is done, from 0 to 1.

        A function of this number alone (a temperature) needs no state in checkpoints.
        """
        del done

    def width(self, channels: int) -> int:
        """Channels of an edge's operations in a cell of this many channels."""
        return channels

    def enter(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> (N, width, H, W): what the operations of an edge read."""
        return x

    def leave(self, x: Tensor, mixed: Tensor, stride: int) -> Tensor:
        """What an edge gives to its node.

        Args:
            x: (N, channels, H, W), the edge's input.
            mixed: (N, width, H / stride, W / stride), the weighted sum of its operations.
            stride: 1 or 2.

        Returns:
            (N, channels, H / stride, W / stride).
        """
        del x, stride
        return mixed


@RELAXATIONS.register_module()
class Softmax(Relaxation):
    """The operations of an edge compete: weights are positive and sum to 1 (DARTS, eq. 2)."""

    def weights(self, alpha: Tensor) -> Tensor:
        return alpha.softmax(-1)


@RELAXATIONS.register_module()
class Sigmoid(Relaxation):
    """Each operation has a weight of its own between 0 and 1 (Fair DARTS, Chu et al., ECCV 2020).

    Made for :class:`~rarts_mm.search.penalties.ZeroOnePenalty`, which drives weights to 0 or 1.
    """

    def weights(self, alpha: Tensor) -> Tensor:
        return alpha.sigmoid()
