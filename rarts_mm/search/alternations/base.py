"""What all alternations have in common."""

from abc import ABC, abstractmethod
from typing import ClassVar

from ..state import Stateful
from ..stepper import Stepper


class Alternation(Stateful, ABC):
    """One step of a search.

    A rule that remembers something from step to step (a counter, a running mean) defines
    ``state_dict`` and ``load_state_dict``: a resumed search is the uninterrupted one only then.

    Attributes:
        players: the groups of parameters that the rule moves.
        uses: which weights of the Lagrangian it reads, of ``'lam'`` and ``'beta'``.
        simultaneous: whether u and w are coupled at their old values (Jacobi) rather than each at the
            newest value of the other (Gauss-Seidel); decides how large eta * beta may be.
        second_order: whether a step differentiates twice.
        gradients_at_once: whether all players hold gradients at the same time.
        copies: of the weights, that a step holds besides their gradients.
    """

    players: ClassVar[tuple[str, ...]]
    uses: ClassVar[frozenset[str]] = frozenset()
    simultaneous: ClassVar[bool] = False
    gradients_at_once: ClassVar[bool] = False
    second_order: bool = False
    copies: int = 0

    @abstractmethod
    def __call__(self, s: Stepper) -> None:
        """Perform one step."""
