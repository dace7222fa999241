"""Relaxed Architecture Search: two networks, one alpha."""

from rarts_mm.registry import ALTERNATIONS

from ..problem import ALPHA, AUXILIARY, PRIMARY
from ..stepper import Stepper
from .base import Alternation


@ALTERNATIONS.register_module()
class RARTS(Alternation):
    """Relaxed Architecture Search, Gauss-Seidel (thesis, eq. 2.12 and Algorithm 2).

    .. code-block:: text

        w <- w - eta_w ( lambda dL_a/dw(w, alpha) + beta (w - u) )
        u <- u - eta_u ( dL_p/du(u, alpha) + beta (u - w) )                      with the new w
        alpha <- alpha - eta_alpha ( lambda dL_a/dalpha(w, alpha) + dL_p/dalpha(u, alpha)
                                     + gamma dP/dalpha )                         with the new w, u

    Cost: four forward passes, four backward passes of which two need no gradient of weights: 10 F
    where one forward pass is F (joint training on the same two batches: 6 F).
    """

    players = (AUXILIARY, PRIMARY, ALPHA)
    uses = frozenset({"lam", "beta"})

    def __call__(self, s: Stepper) -> None:
        lam = s.lagrangian.lam
        s.gradients(AUXILIARY, AUXILIARY, of=(AUXILIARY,), factor=lam)
        s.descend(AUXILIARY, coupled_to=PRIMARY)

        s.gradients(PRIMARY, PRIMARY, of=(PRIMARY,))
        s.descend(PRIMARY, coupled_to=AUXILIARY)

        # One backward pass each: summing the losses first would hold both graphs in memory.
        s.gradients(AUXILIARY, AUXILIARY, of=(ALPHA,), factor=lam)
        s.gradients(PRIMARY, PRIMARY, of=(ALPHA,))
        s.descend(ALPHA)


@ALTERNATIONS.register_module()
class RARTSJacobi(Alternation):
    """RARTS with simultaneous updates: u, w and alpha all read the old values.

    Not in the papers. One backward pass per network yields both of its gradients, so a step costs
    6 F instead of 10 F. The price is stability: the coupling of u and w diverges for half the
    learning rate or less (see :mod:`rarts_mm.search.stability`), and the descent of the Lagrangian
    (thesis, Theorem 2.2) is proven for the other order only, though random quadratics show it within
    the same bounds.
    """

    players = (AUXILIARY, PRIMARY, ALPHA)
    uses = frozenset({"lam", "beta"})
    simultaneous = True
    gradients_at_once = True

    def __call__(self, s: Stepper) -> None:
        s.gradients(AUXILIARY, AUXILIARY, of=(AUXILIARY, ALPHA), factor=s.lagrangian.lam)
        s.gradients(PRIMARY, PRIMARY, of=(PRIMARY, ALPHA))
        s.descend_at_once((AUXILIARY, PRIMARY), (PRIMARY, AUXILIARY), (ALPHA, None))
