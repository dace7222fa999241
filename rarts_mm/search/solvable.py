"""The model whose searches can be solved by hand (thesis, Example 2.4; IEEE Access 2022, III-D).

L_p(u, alpha) = alpha u - 2 alpha + 1        L_a(w, alpha) = w^2 - 2 alpha w + alpha^2
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .lagrangian import Lagrangian
from .problem import ALPHA, AUXILIARY, PRIMARY, Problem
from .player import Player
from .stepper import Stepper


@dataclass(frozen=True)
class Point:
    """A point (alpha, w, u) of the solvable model."""

    alpha: float
    w: float
    u: float


class SolvableModel(Problem):
    """The solvable model as a search problem, float64.

    Args:
        start: the initial point; the papers start at (alpha, w, u) = (2, -2, 0).
        eta: learning rate of plain gradient descent for all three.
    """

    def __init__(self, start: Point = Point(2.0, -2.0, 0.0), eta: float = 0.01) -> None:
        self.values: dict[str, Tensor] = {
            name: torch.tensor(value, dtype=torch.float64, requires_grad=True)
            for name, value in ((ALPHA, start.alpha), (AUXILIARY, start.w), (PRIMARY, start.u))
        }
        self.eta = eta

    def players(self, names: tuple[str, ...]) -> dict[str, Player]:
        """Players of these names, each moved by plain SGD."""
        return {
            name: Player([self.values[name]], torch.optim.SGD([self.values[name]], lr=self.eta))
            for name in names
        }

    def loss(self, network: str, half: str, part: int = 0) -> Tensor:
        del part
        x, alpha = self.values[network], self.values[ALPHA]
        if half == PRIMARY:
            return alpha * x - 2 * alpha + 1
        return x**2 - 2 * alpha * x + alpha**2

    @property
    def point(self) -> Point:
        """Where the search stands."""
        return Point(*(self.values[name].item() for name in (ALPHA, AUXILIARY, PRIMARY)))

    def lagrangian(self, weights: Lagrangian) -> float:
        """L at the current point (penalties aside)."""
        with torch.no_grad():
            coupling, _ = weights.coupling_terms([self.values[PRIMARY]], [self.values[AUXILIARY]])
            loss_p = self.loss(PRIMARY, PRIMARY)
            loss_a = self.loss(AUXILIARY, AUXILIARY)
        return (loss_p + weights.lam * loss_a + coupling).item()


def limit(lam: float, beta: float) -> Point | None:
    """Where RARTS ends on the solvable model, or None where it diverges (d <= 0).

    d = 4 beta lambda - beta - 2 lambda; alpha = 4 beta lambda / d,
    w = (4 beta lambda - 2 beta) / d, u = (4 beta lambda - 2 beta - 4 lambda) / d.
    """
    d = 4 * beta * lam - beta - 2 * lam
    if d <= 0:
        return None
    product = 4 * beta * lam
    return Point(product / d, (product - 2 * beta) / d, (product - 2 * beta - 4 * lam) / d)


def solve(
    alternation, weights: Lagrangian, steps: int, model: SolvableModel | None = None
) -> Point:
    """Run an alternation on the solvable model for a number of steps; return where it ends."""
    model = model or SolvableModel()
    stepper = Stepper(model.players(alternation.players), weights)
    for _ in range(steps):
        stepper.run(alternation, model)
    return model.point
