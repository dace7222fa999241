"""Where the coupling of u and w stops drawing them together."""

import itertools

import pytest
import torch

from rarts_mm.search import (
    ALPHA,
    AUXILIARY,
    PRIMARY,
    RARTS,
    Lagrangian,
    Player,
    Problem,
    RARTSJacobi,
    Stepper,
)
from rarts_mm.search.stability import Descent, coupling_bound, coupling_radius

MOMENTA = (0.0, 0.3, 0.9)


@pytest.mark.parametrize("momentum", MOMENTA)
def test_the_bounds_of_momentum_sgd_in_closed_form(momentum):
    descent = Descent(momentum)
    assert coupling_bound(descent, simultaneous=False) == pytest.approx(
        2 * (1 - momentum), abs=1e-6
    )
    assert coupling_bound(descent, simultaneous=True) == pytest.approx(1 + momentum, abs=1e-6)
    for simultaneous, bound in ((False, 2.0), (True, 1.0)):
        assert coupling_bound(descent, simultaneous, decoupled=True) == pytest.approx(bound)


class Flat(Problem):
    """Losses that are constant in value: only the coupling moves anything."""

    def __init__(self, values):
        self.values = values

    def loss(self, network, half, part=0):
        return (0.0 * (self.values[network] * self.values[ALPHA])).sum()


def distances(rule, settings, step, coupling):
    """|u - w| after every step, by the search's own classes."""
    values = {
        name: torch.tensor([value], dtype=torch.float64, requires_grad=True)
        for name, value in ((ALPHA, 1.0), (AUXILIARY, -0.3), (PRIMARY, 0.9))
    }
    players = {
        name: Player([p], torch.optim.SGD([p], lr=0.1, **settings)) for name, p in values.items()
    }
    stepper = Stepper(players, Lagrangian(1.0, step / 0.1, coupling=coupling))
    found = []
    for _ in range(200):
        stepper.run(rule, Flat(values))
        found.append(abs((values[PRIMARY] - values[AUXILIARY]).item()))
    return found


CASES = [
    dict(),
    dict(momentum=0.9),
    dict(momentum=0.9, nesterov=True),
    dict(momentum=0.5, dampening=0.3),
]


@pytest.mark.parametrize("settings", CASES, ids=str)
@pytest.mark.parametrize("rule", [RARTS(), RARTSJacobi()], ids=["gauss-seidel", "jacobi"])
@pytest.mark.parametrize("coupling", ["gradient", "decoupled"])
def test_the_radius_is_what_the_search_does(rule, settings, coupling):
    descent = Descent(**settings)
    decoupled = coupling == "decoupled"
    bound = coupling_bound(descent, rule.simultaneous, decoupled)
    below, above = 0.8 * bound, 1.05 * bound
    assert coupling_radius(below, below, descent, rule.simultaneous, decoupled) < 1
    assert distances(rule, settings, below, coupling)[-1] < 0.01

    radius = coupling_radius(above, above, descent, rule.simultaneous, decoupled)
    found = distances(rule, settings, above, coupling)
    # Oscillating modes: the largest of two windows, 100 steps apart.
    growth = (max(found[180:200]) / max(found[80:100])) ** (1 / 100)
    assert growth == pytest.approx(radius, abs=0.01)
    assert radius > 1


def test_unequal_learning_rates():
    for momentum, ratio in itertools.product(MOMENTA, (0.2, 1.0, 3.0)):
        bound = coupling_bound(Descent(momentum), False, ratio=ratio)
        for step, stable in ((0.99 * bound, True), (1.01 * bound, False)):
            radius = coupling_radius(step, ratio * step, Descent(momentum), False)
            assert (radius < 1) == stable
