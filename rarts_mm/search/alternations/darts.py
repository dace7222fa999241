"""DARTS, first order, and the frame that both orders share."""

from abc import abstractmethod

from rarts_mm.registry import ALTERNATIONS

from ..problem import ALPHA, AUXILIARY, PRIMARY
from ..stepper import Stepper
from .base import Alternation

ORDERS = ("w", "alpha")


class DARTS(Alternation):
    """One network; w by L_a, and alpha by L_p before or after it.

    Args:
        first: ``'w'`` or ``'alpha'``, whose step comes first.
    """

    players = (AUXILIARY, ALPHA)

    def __init__(self, first: str = "w") -> None:
        if first not in ORDERS:
            raise ValueError(
                f"{type(self).__name__}: first={first!r} must be 'w' (the thesis, eq. 2.21) or 'alpha' "
                "(the order of the DARTS authors' code)"
            )
        self.first = first

    def __call__(self, s: Stepper) -> None:
        if self.first == "alpha":
            self.step_alpha(s)
        s.gradients(AUXILIARY, AUXILIARY, of=(AUXILIARY,))
        s.descend(AUXILIARY)
        if self.first == "w":
            self.step_alpha(s)

    @abstractmethod
    def step_alpha(self, s: Stepper) -> None:
        """The step of alpha."""


@ALTERNATIONS.register_module()
class DARTS1(DARTS):
    """Differentiable architecture search, first order (thesis, eq. 2.21; Liu et al., ICLR 2019).

    .. code-block:: text

        w <- w - eta_w dL_a/dw(w, alpha)
        alpha <- alpha - eta_alpha ( dL_p/dalpha(w, alpha) + gamma dP/dalpha )       with the new w

    Cost: 5 F.

    Args:
        first: ``'w'``, the order above, or ``'alpha'``, the order of the DARTS authors' code.
    """

    def step_alpha(self, s: Stepper) -> None:
        s.gradients(AUXILIARY, PRIMARY, of=(ALPHA,))
        s.descend(ALPHA)
