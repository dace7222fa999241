"""MiLeNAS, first order."""

from rarts_mm.registry import ALTERNATIONS

from ..problem import ALPHA, AUXILIARY, PRIMARY
from ..stepper import Stepper
from .base import Alternation


@ALTERNATIONS.register_module()
class MiLeNAS(Alternation):
    """Mixed-level architecture search, first order (thesis, eq. 2.23; He et al., CVPR 2020).

    .. code-block:: text

        w <- w - eta_w dL_a/dw(w, alpha)
        alpha <- alpha - eta_alpha ( dL_a/dalpha(w, alpha) + lambda dL_p/dalpha(w, alpha)
                                     + gamma dP/dalpha )                             with the new w

    Lambda stands at L_p, as in the thesis; the MiLeNAS authors' own code puts it at the other term.
    Cost: 7 F.
    """

    players = (AUXILIARY, ALPHA)
    uses = frozenset({"lam"})

    def __call__(self, s: Stepper) -> None:
        s.gradients(AUXILIARY, AUXILIARY, of=(AUXILIARY,))
        s.descend(AUXILIARY)
        s.gradients(AUXILIARY, AUXILIARY, of=(ALPHA,))
        s.gradients(AUXILIARY, PRIMARY, of=(ALPHA,), factor=s.lagrangian.lam)
        s.descend(ALPHA)
