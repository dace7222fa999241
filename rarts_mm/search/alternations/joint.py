"""Joint training."""

from rarts_mm.registry import ALTERNATIONS

from ..problem import ALPHA, AUXILIARY, PRIMARY
from ..stepper import Stepper
from .base import Alternation


@ALTERNATIONS.register_module()
class Joint(Alternation):
    """Joint training of one network's weights and alpha, as in Network Slimming (thesis, 4.1.2).

    One backward pass per batch gives both gradients of L_p(w, alpha) + lambda L_a(w, alpha): 6 F.
    """

    players = (AUXILIARY, ALPHA)
    uses = frozenset({"lam"})
    gradients_at_once = True

    def __call__(self, s: Stepper) -> None:
        s.gradients(AUXILIARY, AUXILIARY, of=(AUXILIARY, ALPHA), factor=s.lagrangian.lam)
        s.gradients(AUXILIARY, PRIMARY, of=(AUXILIARY, ALPHA))
        s.descend_at_once((AUXILIARY, None), (ALPHA, None))
