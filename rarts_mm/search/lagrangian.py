"""The relaxed Lagrangian (thesis, eq. 2.11)

    L(u, w, alpha) = L_p(u, alpha) + lambda L_a(w, alpha) + beta/2 |u - w|^2 + gamma P(alpha)

and the gradients of the terms that are not a network's loss.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .penalties import Penalty, ProximalPenalty, SmoothPenalty
from .player import Player, fill_missing_gradients_

COUPLINGS = ("gradient", "decoupled")


@dataclass(frozen=True)
class Lagrangian:
    """The weights of the Lagrangian's terms.

    Args:
        lam: lambda >= 0, weight of the auxiliary loss.
        beta: beta >= 0, weight of the coupling of the two networks' weights.
        penalties: the terms gamma * P(alpha).
        coupling: where the coupling acts. ``'gradient'``: its gradient beta (u - w) goes through the
            optimiser as the loss's does, so that the search's fixed points are those of the
            Lagrangian. ``'decoupled'``: weights move by eta * beta towards their twins beside the
            optimiser's step, as weight decay does in AdamW; with an adaptive optimiser this keeps the
            pull in proportion to the distance, but the fixed points are other ones.
    """

    lam: float = 1.0
    beta: float = 0.1
    penalties: tuple[Penalty, ...] = field(default=())
    coupling: str = "gradient"

    def __post_init__(self) -> None:
        for name, symbol in (("lam", "lambda"), ("beta", "beta")):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not (number and math.isfinite(value) and value >= 0):
                raise ValueError(
                    f"{name} ({symbol} of the Lagrangian) must be a finite number >= 0, "
                    f"got {value!r}"
                )
        if self.coupling not in COUPLINGS:
            raise ValueError(f"coupling must be one of {COUPLINGS}, got {self.coupling!r}")
        for penalty in self.penalties:
            if not isinstance(penalty, SmoothPenalty | ProximalPenalty):
                raise ValueError(
                    f"the penalty {type(penalty).__name__} would do nothing: it is neither a "
                    "SmoothPenalty, which acts by its gradient, nor a ProximalPenalty, which acts by "
                    "its proximal map; derive its class from one of them (rarts_mm.search)"
                )

    @property
    def in_gradient(self) -> bool:
        """Whether the coupling's gradient goes through the optimiser."""
        return self.coupling == "gradient"

    def bind(self, alphas: Mapping[str, Tensor]) -> None:
        """Show every penalty alpha, by name."""
        for penalty in self.penalties:
            penalty.bind(alphas)

    def coupling_terms(self, u: Sequence[Tensor], w: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return (beta/2 |u - w|^2, |u - w|), two scalars."""
        with torch.no_grad():
            norms = torch._foreach_norm(torch._foreach_sub(list(u), list(w)))
            # Half precision would overflow in the sum; float64 stays what it is.
            norms = [norm.to(torch.promote_types(norm.dtype, torch.float32)) for norm in norms]
            distance = torch.linalg.vector_norm(torch.stack(norms))
        return 0.5 * self.beta * distance**2, distance

    def add_coupling_(self, mine: Sequence[Tensor], other: Sequence[Tensor]) -> None:
        """Add beta * (mine - other) to every ``mine.grad``, creating those that are missing.

        A weight that took no part in the loss still feels the pull of its twin.
        """
        if not self.beta:
            return
        with torch.no_grad():
            fill_missing_gradients_(mine)
            gradients = [p.grad for p in mine]
            # Two in-place passes instead of one with a temporary of the network's size.
            torch._foreach_add_(gradients, list(mine), alpha=self.beta)
            torch._foreach_add_(gradients, list(other), alpha=-self.beta)

    def pull_(self, mine: Player, other: Sequence[Tensor]) -> None:
        """The decoupled coupling: mine <- mine - eta * beta * (mine - other), eta of each group."""
        if not self.beta:
            return
        with torch.no_grad():
            for group, indices in mine.groups():
                torch._foreach_lerp_(
                    [mine.params[i] for i in indices],
                    [other[i] for i in indices],
                    float(group["lr"]) * self.beta,
                )

    def penalty(self, alpha: Player) -> Tensor | float:
        """gamma_factor * gamma * P(alpha), summed over the penalties."""
        with torch.no_grad():
            return sum(
                factor * penalty.value([alpha.params[i] for i in indices])
                for penalty in self.penalties
                for factor, indices in _shares(penalty, alpha, _gamma_factor)
            )

    def add_penalty_gradient_(self, alpha: Player) -> None:
        """Add gamma_factor * gamma * dP/dalpha to every ``alpha.grad``, creating those that are missing.

        An alpha that took no part in the loss still feels its penalty.
        """
        with torch.no_grad():
            fill_missing_gradients_(alpha.params)
            for penalty in self.penalties:
                if isinstance(penalty, SmoothPenalty):
                    for factor, indices in _shares(penalty, alpha, _gamma_factor):
                        penalty.add_gradient_([alpha.params[i] for i in indices], factor)

    def proximal_(self, alpha: Player) -> None:
        """The penalties' proximal maps, after alpha's step."""
        with torch.no_grad():
            for penalty in self.penalties:
                if isinstance(penalty, ProximalPenalty):
                    for step, indices in _shares(penalty, alpha, _proximal_step):
                        penalty.proximal_([alpha.params[i] for i in indices], step)

    def residual(self, player: Player, other: Sequence[Tensor] | None = None) -> Tensor:
        """Norm of one equation of the equilibrium system (thesis, eq. 2.19), from the losses' gradients.

        Args:
            player: w, u (with ``other``, its twin) or alpha, holding the gradient of the losses.
            other: the weights of the twin, or None where nothing is coupled.
        """
        with torch.no_grad():
            if other is None:
                gradients = [p.grad for p in player.params if p.grad is not None]
                return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
            squares = []
            # One parameter at a time, or there would be a temporary of the network's size.
            for p, q in zip(player.params, other, strict=True):
                pull = self.beta * (p - q)
                full = pull if p.grad is None else pull.add_(p.grad)
                squares.append(torch.linalg.vector_norm(full))
            return torch.linalg.vector_norm(torch.stack(squares))

    def alpha_residual(self, alpha: Player) -> Tensor:
        """Norm of alpha's equation of the equilibrium system (thesis, eq. 2.19)."""
        with torch.no_grad():
            gradients = [
                torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in alpha.params
            ]
            for penalty in self.penalties:
                for factor, indices in _shares(penalty, alpha, _gamma_factor):
                    penalty.residual_(
                        [gradients[i] for i in indices], [alpha.params[i] for i in indices], factor
                    )
            return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))


def _gamma_factor(group: Mapping[str, Any]) -> float:
    """What a group of alpha's optimiser multiplies every gamma by; a scheduler may move it."""
    return float(group.get("gamma_factor", 1.0))


def _proximal_step(group: Mapping[str, Any]) -> float:
    return float(group["lr"]) * _gamma_factor(group)


def _shares(
    penalty: Penalty, alpha: Player, weight: Callable[[Mapping[str, Any]], float]
) -> list[tuple[float, list[int]]]:
    """The weights that the groups of alpha's optimiser have, each with the alphas that share it.

    Raises:
        ValueError: there are several, and the penalty is one term of all alphas together.
    """
    found: dict[float, list[int]] = {}
    for group, indices in alpha.groups():
        found.setdefault(weight(group), []).extend(indices)
    if len(found) > 1 and not penalty.separable:
        raise ValueError(
            f"{type(penalty).__name__} is one term of all alphas together and has one weight, but the "
            f"groups of alpha's optimiser have {len(found)}: {', '.join(f'{w:g}' for w in found)} "
            "(gamma_factor, for a proximal map times the learning rate). Give all groups the same, or "
            "set separable = True in its class if it is a sum over alphas"
        )
    return [(w, sorted(indices)) for w, indices in found.items()]
