"""Alternations: how w, u and alpha take turns within one step.

Each is one rule over the mechanism in ``stepper.py``. L_a and L_p are evaluated on the same two
batches throughout a step.
"""

from abc import ABC, abstractmethod

from rarts_mm.registry import ALTERNATIONS

from .problem import ALPHA, AUXILIARY, PRIMARY
from .stepper import Stepper


class Alternation(ABC):
    """One step of a search.

    Attributes:
        players: the groups of parameters that the rule moves.
    """

    players: tuple[str, ...]

    @abstractmethod
    def __call__(self, s: Stepper) -> None:
        """Perform one step."""


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
class Joint(Alternation):
    """Joint training of one network's weights and alpha, as in Network Slimming (thesis, 4.1.2).

    One backward pass per batch gives both gradients: L_p(w, alpha) + lambda L_a(w, alpha).
    """

    players = (AUXILIARY, ALPHA)

    def __call__(self, s: Stepper) -> None:
        s.gradients(AUXILIARY, AUXILIARY, of=(AUXILIARY, ALPHA), factor=s.lagrangian.lam)
        s.gradients(AUXILIARY, PRIMARY, of=(AUXILIARY, ALPHA))
        s.descend(AUXILIARY)
        s.descend(ALPHA)
