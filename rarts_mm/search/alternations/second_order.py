"""DARTS, second order."""

import math

import torch
from torch import Tensor

from rarts_mm.registry import ALTERNATIONS

from ..problem import ALPHA, AUXILIARY, PRIMARY
from ..stepper import Stepper
from ..virtual_step import VirtualStep
from .darts import DARTS

DERIVATIVES = ("finite-difference", "exact")
# The two points of the central difference lie this far from w (Liu et al., ICLR 2019, section 2.3).
_DISTANCE = 0.01


@ALTERNATIONS.register_module()
class DARTS2(DARTS):
    """Differentiable architecture search, second order (thesis, eq. 2.7; Liu et al., ICLR 2019).

    .. code-block:: text

        w <- w - eta_w dL_a/dw(w, alpha)
        alpha <- alpha - eta_alpha ( d/dalpha L_p(w'(alpha), alpha) + gamma dP/dalpha ),
        w'(alpha) = w - xi dL_a/dw(w, alpha)                                         with the new w

    With v = dL_p/dw(w', alpha), the gradient is dL_p/dalpha(w', alpha) - xi d/dalpha <dL_a/dw(w, alpha), v>.
    The virtual step w' is the optimiser's: with SGD, its momentum buffer and weight decay take part;
    with any other optimiser it is the plain one above.

    Cost: 13 F with the finite difference.

    Args:
        xi: length of the virtual step, >= 0; None takes each group's current learning rate.
        derivative: ``'finite-difference'``, the central difference of dL_a/dalpha at two points at a
            distance of 0.01 from w along v, or ``'exact'``, by differentiating twice. Exact needs
            layers that torch can differentiate twice (mmcv's operators cannot), and holds the graph
            of L_a while L_p is evaluated.
        first: ``'w'``, the order above, or ``'alpha'``, the order of the DARTS authors' code.
    """

    def __init__(
        self, xi: float | None = None, derivative: str = "finite-difference", first: str = "w"
    ) -> None:
        if xi is not None and not (isinstance(xi, int | float) and math.isfinite(xi) and xi >= 0):
            raise ValueError(
                f"DARTS2: xi={xi!r}, the length of the virtual step, must be a finite number >= 0, or "
                "None for the weights' current learning rate"
            )
        if derivative not in DERIVATIVES:
            raise ValueError(f"DARTS2: derivative={derivative!r} must be one of {DERIVATIVES}")
        self.xi = xi
        self.derivative = derivative
        self.second_order = derivative == "exact"
        # The weights where they stood; exact also the gradient of L_a, as a graph and as values.
        self.copies = 3 if self.second_order else 1
        super().__init__(first)

    def step_alpha(self, s: Stepper) -> None:
        if not s.moves(ALPHA):
            return
        if self.second_order:
            self._exact(s)
        else:
            self._finite_difference(s)
        s.descend(ALPHA)

    def _finite_difference(self, s: Stepper) -> None:
        s.gradients(AUXILIARY, AUXILIARY, of=(AUXILIARY,), update_statistics=False)
        with VirtualStep(s.players[AUXILIARY], self.xi) as virtual:
            v = self._gradient_at_virtual_point(s, virtual)
            if v is None:
                return
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(v))).item()
            if norm == 0:
                return
            if not math.isfinite(norm):
                s.invalidate(ALPHA)
                return
            epsilon = _DISTANCE / norm
            for sign in (1, -1):
                virtual.put(v, sign * epsilon)
                # Rounded to half precision, the two points would be apart by rounding alone.
                s.gradients(
                    *(AUXILIARY, AUXILIARY),
                    of=(ALPHA,),
                    factor=-sign / (2 * epsilon),
                    full_precision=True,
                )

    def _exact(self, s: Stepper) -> None:
        gradient = s.differentiable_gradient(AUXILIARY, AUXILIARY)
        with VirtualStep(s.players[AUXILIARY], self.xi) as virtual:
            v = self._gradient_at_virtual_point(s, virtual)
        if v is not None:
            # With w in its place again, as the graph of L_a's gradient reads it.
            s.add_product(gradient, v, factor=-1.0)

    def _gradient_at_virtual_point(self, s: Stepper, virtual: VirtualStep) -> list[Tensor] | None:
        """Take the virtual step with the gradient of L_a that w holds; add dL_p/dalpha there to alpha's.

        Returns:
            minus v times the derivative of w' by that gradient; None after an overflow.
        """
        gradient = s.collect(AUXILIARY)
        if gradient is None:
            return None
        virtual.take(gradient)
        # Not to be held through the pass.
        del gradient
        s.gradients(AUXILIARY, PRIMARY, of=(AUXILIARY, ALPHA), update_statistics=False)
        v = s.collect(AUXILIARY)
        return None if v is None else virtual.scale(v)
