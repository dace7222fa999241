"""The searches on the model that can be solved by hand (thesis, Example 2.4)."""

import itertools
import math

import pytest
import torch

from rarts_mm.search import (
    RARTS,
    Joint,
    Lagrangian,
    Point,
    SolvableModel,
    limit,
    solve,
)


def assert_near(found: Point, wanted: Point, tolerance: float = 1e-6) -> None:
    for name in ("alpha", "w", "u"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), abs=tolerance), name


@pytest.mark.parametrize(
    ("lam", "beta", "wanted"),
    [
        (10, 10, Point(40 / 37, 38 / 37, 34 / 37)),
        (15, 15, Point(1.0526315789, 1.0175438596, 0.9473684211)),
        (1, 1, Point(4, 2, -2)),
        # Only the Gauss-Seidel order of the updates converges here; simultaneous updates diverge.
        (50, 50, Point(1.0152284264, 1.0050761421, 0.9847715736)),
    ],
)
def test_rarts_ends_at_the_published_limit(lam, beta, wanted):
    steps = 6000 if lam == 1 else 2500
    assert_near(solve(RARTS(), Lagrangian(lam, beta), steps), wanted)
    assert_near(limit(lam, beta), wanted)


@pytest.mark.parametrize(("lam", "beta"), [(3, 2), (7, 21), (25, 4)])
def test_rarts_ends_at_the_closed_form_beyond_the_table(lam, beta):
    model = SolvableModel(Point(-1.5, 0.7, 2.2))
    assert_near(solve(RARTS(), Lagrangian(lam, beta), 4000, model), limit(lam, beta))


def test_first_iterate_and_its_lagrangian():
    model, weights = SolvableModel(), Lagrangian(10, 10)
    assert_near(solve(RARTS(), weights, 1, model), Point(1.4212, -1.0, -0.12), 1e-12)
    assert model.lagrangian(weights) == pytest.approx(60.48115, abs=1e-5)


def test_lagrangian_at_the_limit():
    model, weights = SolvableModel(), Lagrangian(10, 10)
    solve(RARTS(), weights, 2500, model)
    assert model.lagrangian(weights) == pytest.approx(-3 / 37, abs=1e-6)


def test_rarts_diverges_where_no_equilibrium_is_stable():
    assert limit(0.4, 1) is None
    end = solve(RARTS(), Lagrangian(0.4, 1), 3000)
    assert not math.isfinite(end.alpha) or abs(end.alpha) > 100


def test_joint_training_ends_at_its_own_point():
    for lam in (2, 10):
        end = solve(Joint(), Lagrangian(lam, 0), 3000)
        assert end.alpha == pytest.approx(4 * lam / (4 * lam - 1), abs=1e-6)


@pytest.mark.parametrize("name", ["lam", "beta"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), "1"])
def test_weights_of_the_lagrangian_are_checked(name, value):
    with pytest.raises(ValueError, match=name):
        Lagrangian(**{name: value})


def test_descent_within_the_bounds_of_theorem_2_2():
    """With learning rates below the bounds of T 2.15 the Lagrangian never rises."""
    torch.manual_seed(0)
    weights = Lagrangian(3, 2)
    # L_a's Hessian has eigenvalues 0 and 4, L_p's -1 and 1: L = 4 bounds both.
    lipschitz = 4.0
    eta = 0.99 * min(1 / (2 + 2 * 3 * lipschitz), 1 / ((2 + 2 * 3) * lipschitz))
    model = SolvableModel(eta=eta)
    values = [model.lagrangian(weights)]
    for _ in range(300):
        solve(RARTS(), weights, 1, model)
        values.append(model.lagrangian(weights))
    assert all(b <= a + 1e-12 for a, b in itertools.pairwise(values))
