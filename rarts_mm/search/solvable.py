"""The model whose searches can be solved by hand (thesis, Example 2.4; IEEE Access 2022, III-D).

L_p(u, alpha) = alpha u - 2 alpha + 1        L_a(w, alpha) = w^2 - 2 alpha w + alpha^2

The classes that search networks run on it as they are.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from .alternations import (
    DARTS1,
    DARTS2,
    RARTS,
    Alternation,
    Joint,
    MiLeNAS,
    RARTSJacobi,
    WeightsOnly,
)
from .lagrangian import Lagrangian
from .player import Player
from .problem import ALPHA, AUXILIARY, PRIMARY, SYMBOLS, Problem
from .stepper import Stepper

# Beyond a million times its start, or its limit, a search has diverged.
_FAR = 1e6
# So often in a row a step has to be too short to count; with momentum a search turns round at times.
_RESTING_STEPS = 10
# Hours of them.
_MOST_STEPS = 10_000_000


@dataclass(frozen=True)
class Point:
    """A point (alpha, w, u) of the solvable model; u is None in a search with one network."""

    alpha: float
    w: float
    u: float | None


START = Point(2.0, -2.0, 0.0)


@dataclass(frozen=True)
class Outcome:
    """How a search on the solvable model ended.

    Attributes:
        point: where it stands.
        lagrangian: the Lagrangian there (thesis, eq. 2.11, with u = w where there is one network), or
            None for an alternation without a lambda.
        residuals: the left sides of the search's own equilibrium equations (thesis, eq. 2.19, 2.22,
            2.24), by symbol, as one more step would see them.
        converged: whether it has come to rest, to machine precision, where the residuals vanish.
        diverged: whether it has run away.
        steps: how many steps it took.
    """

    point: Point
    lagrangian: float | None
    residuals: dict[str, float]
    converged: bool
    diverged: bool
    steps: int


class SolvableModel(Problem):
    """The solvable model as a search problem, float64.

    Args:
        start: the initial point; the papers start at (alpha, w, u) = (2, -2, 0).
        eta: learning rate of gradient descent for all three, > 0.
        momentum: of gradient descent for all three, in [0, 1).
    """

    def __init__(self, start: Point = START, eta: float = 0.01, momentum: float = 0.0) -> None:
        if not (math.isfinite(eta) and eta > 0):
            raise ValueError(
                f"eta, the learning rate, must be a finite number > 0, got {eta!r}; the papers use 0.01"
            )
        if not 0 <= momentum < 1:
            raise ValueError(
                f"momentum must be at least 0 and below 1, got {momentum!r}; 0 is plain gradient descent"
            )
        self.values: dict[str, Tensor] = {
            name: torch.tensor(value, dtype=torch.float64, requires_grad=True)
            for name, value in (
                (ALPHA, start.alpha),
                (AUXILIARY, start.w),
                (PRIMARY, start.u or 0.0),
            )
        }
        self.eta = eta
        self.momentum = momentum

    def players(self, names: tuple[str, ...]) -> dict[str, Player]:
        """Players of these names, each moved by SGD."""
        return {
            name: Player(
                [self.values[name]],
                # One number each: the fused way over lists of tensors has nothing to offer.
                torch.optim.SGD(
                    [self.values[name]], lr=self.eta, momentum=self.momentum, foreach=False
                ),
            )
            for name in names
        }

    def loss(self, network: str, half: str, part: int = 0) -> Tensor:
        del part
        x, alpha = self.values[network], self.values[ALPHA]
        return alpha * (x - 2) + 1 if half == PRIMARY else (x - alpha).square()

    @property
    def point(self) -> Point:
        """Where the search stands."""
        return Point(*(self.values[name].item() for name in (ALPHA, AUXILIARY, PRIMARY)))

    def lagrangian(self, weights: Lagrangian, primary: str = PRIMARY) -> float:
        """L at the current point (penalties aside); ``primary`` says whose weights u are."""
        with torch.no_grad():
            coupling, _ = weights.coupling_terms([self.values[primary]], [self.values[AUXILIARY]])
            loss_p = self.loss(primary, PRIMARY)
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


def closed_form(
    alternation: Alternation, weights: Lagrangian, model: SolvableModel | None = None
) -> Point | None:
    """Where an alternation ends if eta is small enough, or None where it has no stable limit.

    Args:
        alternation: one of this package's.
        weights: lambda, beta and the coupling; no penalties.
        model: its eta, momentum and current alpha, where they matter.
    """
    model = model or SolvableModel()
    lam = weights.lam
    match alternation:
        case RARTS() | RARTSJacobi():
            return limit(lam, effective_beta(weights, model.momentum))
        case DARTS1():
            return Point(2.0, 2.0, None)
        case MiLeNAS():
            # Without L_p every point with w = alpha is an equilibrium.
            return Point(2.0, 2.0, None) if lam > 0 else None
        case DARTS2():
            xi = model.eta if alternation.xi is None else alternation.xi
            return Point(2 / (1 + 2 * xi), 2 / (1 + 2 * xi), None)
        case Joint():
            # The Hessian of L_p(w, alpha) + lambda L_a(w, alpha) has eigenvalues 1 and 4 lambda - 1.
            d = 4 * lam - 1
            return Point(4 * lam / d, (4 * lam - 2) / d, None) if d > 0 else None
        case WeightsOnly():
            alpha = model.point.alpha
            return Point(alpha, alpha * (1 - 1 / (2 * lam)), None) if lam > 0 else None
    return None


def effective_beta(weights: Lagrangian, momentum: float) -> float:
    """The beta whose equilibrium (thesis, eq. 2.19) a search by SGD with momentum comes to.

    Momentum turns a constant gradient g into a step of eta g / (1 - momentum). Decoupled, the
    coupling takes no part in that: at rest g + (1 - momentum) beta (w - u) = 0.
    """
    return weights.beta if weights.in_gradient else (1 - momentum) * weights.beta


def iterates(
    alternation: Alternation, weights: Lagrangian, model: SolvableModel
) -> Iterator[Point]:
    """Where an alternation stands after each step, for ever."""
    stepper = Stepper(model.players(alternation.players), weights)
    while True:
        stepper.run(alternation, model)
        yield model.point


def solve(
    alternation: Alternation, weights: Lagrangian, steps: int, model: SolvableModel | None = None
) -> Point:
    """Run an alternation on the solvable model for a number of steps; return where it ends."""
    model = model or SolvableModel()
    for _ in islice(iterates(alternation, weights, model), steps):
        pass
    return model.point


def search(
    alternation: Alternation, weights: Lagrangian, steps: int, model: SolvableModel | None = None
) -> Outcome:
    """Run an alternation on the solvable model until it rests, runs away or has taken ``steps``.

    It rests where ten steps in a row are shorter than 1e-12 eta, or than what rounding makes of them,
    and the residuals are below 1e-8 (1 + lambda + beta).
    """
    if isinstance(steps, int) and steps > _MOST_STEPS:
        raise ValueError(
            f"steps={steps} would take days; 20000 are enough for most settings, and at most "
            f"{_MOST_STEPS} are taken"
        )
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(
            f"steps={steps!r} must be an integer of at least 1; 20000 are enough for most settings"
        )
    model = model or SolvableModel()
    wanted = closed_form(alternation, weights, model)
    sizes = [abs(x) for p in (model.point, wanted) if p for x in vars(p).values() if x is not None]
    far = _FAR * max(1.0, *sizes)
    small = 1e-8 * (1 + weights.lam + weights.beta)
    converged = diverged = False
    last, resting, taken = vars(model.point), 0, 0
    for point in islice(iterates(alternation, weights, model), steps):
        taken += 1
        here = vars(point)
        # "not <" also sees what is not a number.
        diverged = any(not abs(x) < far for x in here.values())
        resting = resting + 1 if _is_still(last, here, model) else 0
        last = here
        if resting == _RESTING_STEPS:
            # Steps too short to move a number are not yet an equilibrium.
            converged = max(residuals(alternation, weights, model).values()) < small
            resting = 0
        if converged or diverged:
            break
    single = PRIMARY not in alternation.players
    return Outcome(
        Point(**{**last, "u": None}) if single else Point(**last),
        model.lagrangian(weights, AUXILIARY if single else PRIMARY)
        if "lam" in alternation.uses
        else None,
        residuals(alternation, weights, model),
        converged,
        diverged,
        taken,
    )


def residuals(
    alternation: Alternation, weights: Lagrangian, model: SolvableModel
) -> dict[str, float]:
    """Left sides of an alternation's equilibrium equations, by symbol, as its next step sees them."""
    beta = effective_beta(weights, model.momentum)
    twin = SolvableModel(model.point, model.eta)
    stepper = Stepper(twin.players(alternation.players), Lagrangian(weights.lam, beta))
    stepper.measure = True
    stepper.run(alternation, twin)
    return {SYMBOLS[name]: value.item() for name, value in stepper.residuals.items()}


def _is_still(before: dict[str, float], after: dict[str, float], model: SolvableModel) -> bool:
    # Momentum carries rounding errors on.
    units = 4 * torch.finfo(torch.float64).eps / (1 - model.momentum)
    tolerance = max(1e-12 * model.eta, units)
    return all(abs(x - before[name]) <= tolerance * max(1.0, abs(x)) for name, x in after.items())
