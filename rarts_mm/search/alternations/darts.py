"""DARTS, first order, and the order of its two steps."""

from rarts_mm.registry import ALTERNATIONS

from ..problem import ALPHA, AUXILIARY, PRIMARY
from ..stepper import Stepper
from .base import Alternation

ORDERS = ("w", "alpha")


def check_order(first: str, owner: object) -> str:
    """Return ``first`` if it names one of the two orders, else raise ``ValueError``."""
    if first not in ORDERS:
        raise ValueError(
            f"{type(owner).__name__}: first={first!r} must be 'w' (the thesis, eq. 2.21) or 'alpha' "
            "(the order of the DARTS authors' code)"
        )
    return first


@ALTERNATIONS.register_module()
class DARTS1(Alternation):
    """Differentiable architecture search, first order (thesis, eq. 2.21; Liu et al., ICLR 2019).

    .. code-block:: text

        w <- w - eta_w dL_a/dw(w, alpha)
        alpha <- alpha - eta_alpha ( dL_p/dalpha(w, alpha) + gamma dP/dalpha )       with the new w

    Cost: 5 F.

    Args:
        first: ``'w'``, the order above, or ``'alpha'``, the order of the DARTS authors' code.
    """

    players = (AUXILIARY, ALPHA)

    def __init__(self, first: str = "w") -> None:
        self.first = check_order(first, self)

    def __call__(self, s: Stepper) -> None:
        if self.first == "alpha":
            self._alpha(s)
        s.gradients(AUXILIARY, AUXILIARY, of=(AUXILIARY,))
        s.descend(AUXILIARY)
        if self.first == "w":
            self._alpha(s)

    def _alpha(self, s: Stepper) -> None:
        s.gradients(AUXILIARY, PRIMARY, of=(ALPHA,))
        s.descend(ALPHA)
