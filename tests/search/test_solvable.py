"""The searches on the model that can be solved by hand (thesis, Example 2.4)."""

import math

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from rarts_mm.search import (
    DARTS1,
    DARTS2,
    RARTS,
    Joint,
    Lagrangian,
    MiLeNAS,
    Player,
    Point,
    RARTSJacobi,
    SolvableModel,
    Stepper,
    WeightsOnly,
    limit,
    solve,
)
from rarts_mm.search.solvable import closed_form, residuals, search


def assert_near(found: Point, wanted: Point, tolerance: float = 1e-6) -> None:
    for name in ("alpha", "w") if wanted.u is None else ("alpha", "w", "u"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), abs=tolerance), name


TABLE = [
    (10, 10, Point(40 / 37, 38 / 37, 34 / 37)),
    (15, 15, Point(1.0526315789, 1.0175438596, 0.9473684211)),
    (1, 1, Point(4, 2, -2)),
    (50, 50, Point(1.0152284264, 1.0050761421, 0.9847715736)),
]


@pytest.mark.parametrize(("lam", "beta", "wanted"), TABLE)
def test_the_published_limits(lam, beta, wanted):
    """They do not depend on eta, chosen so that few steps are enough."""
    model, steps = SolvableModel(eta=2 / (2 * lam + beta)), 80 + 11 * lam
    assert_near(solve(RARTS(), Lagrangian(lam, beta), steps, model), wanted)
    assert_near(limit(lam, beta), wanted, 1e-9)


@pytest.mark.parametrize(("lam", "beta", "wanted"), TABLE[:3])
def test_simultaneous_updates_have_the_same_limits(lam, beta, wanted):
    """At small enough a learning rate: below 2 / 4.76 lambda here."""
    model, steps = SolvableModel(eta=min(0.37, 0.415 / lam)), 120 + 50 * lam
    assert_near(solve(RARTSJacobi(), Lagrangian(lam, beta), steps, model), wanted)


@settings(max_examples=8, deadline=None, derandomize=True, phases=[Phase.generate])
@given(
    lam=st.floats(0.6, 8.0),
    share=st.floats(2.0, 10.0),
    start=st.tuples(*[st.floats(-3, 3)] * 3),
    over=st.floats(1.4, 1.8),
)
def test_the_closed_form_beyond_the_table(lam, share, start, over):
    """From anywhere, for any lambda and beta with d well above 0."""
    beta = share * 2 * lam / (4 * lam - 1)
    model = SolvableModel(Point(*start), eta=over / (2 * lam + beta))
    assert_near(solve(RARTS(), Lagrangian(lam, beta), 250, model), limit(lam, beta))


@pytest.mark.parametrize(("lam", "beta"), [(25, 4), (0.55, 200), (300, 2)])
def test_the_closed_form_at_one_sided_settings(lam, beta):
    wanted = limit(lam, beta)
    near = Point(wanted.alpha + 1e-3, wanted.w - 1e-3, wanted.u + 1e-3)
    model = SolvableModel(near, eta=1.5 / (2 * lam + beta))
    before = residual(lam, beta, model.point)
    for _ in range(4):
        solve(RARTS(), Lagrangian(lam, beta), 200, model)
        assert residual(lam, beta, model.point) < 0.97 * before
        before = residual(lam, beta, model.point)
    assert residual(lam, beta, wanted) < 1e-11


def residual(lam, beta, point):
    return max(residuals(RARTS(), Lagrangian(lam, beta), SolvableModel(point)).values())


def test_first_iterate_and_its_lagrangian():
    model, weights = SolvableModel(), Lagrangian(10, 10)
    assert_near(solve(RARTS(), weights, 1, model), Point(1.4212, -1.0, -0.12), 1e-12)
    assert model.lagrangian(weights) == pytest.approx(60.48115, abs=1e-5)


def test_first_iterate_of_simultaneous_updates():
    """All three read (2, -2, 0): gradients -100, 22 and 78."""
    end = solve(RARTSJacobi(), Lagrangian(10, 10), 1)
    assert_near(end, Point(2 - 0.78, -2 + 1.0, 0 - 0.22), 1e-12)


@pytest.mark.parametrize(("first", "alpha"), [("w", 2.0392), ("alpha", 2.04)])
def test_first_iterate_tells_the_orders_of_darts_apart(first, alpha):
    """w = -2 + 0.08; alpha = 2 - 0.01 (w - 2) with the new or the old w."""
    end = solve(DARTS1(first), Lagrangian(), 1)
    assert end.alpha == pytest.approx(alpha, abs=1e-12)
    w = -2 - 0.01 * 2 * (-2 - (2 if first == "w" else 2.04))
    assert end.w == pytest.approx(w, abs=1e-12)


def test_first_iterates_of_milenas_and_joint():
    w = -2 + 0.08
    end = solve(MiLeNAS(), Lagrangian(3, 0), 1)
    assert_near(end, Point(2 - 0.01 * (2 * (2 - w) + 3 * (w - 2)), w, None), 1e-12)
    end = solve(Joint(), Lagrangian(3, 0), 1)
    wanted = Point(2 - 0.01 * (-4 + 3 * 8), -2 - 0.01 * (2 + 3 * -8), None)
    assert_near(end, wanted, 1e-12)


def test_simultaneous_updates_diverge_where_gauss_seidel_converges():
    weights = Lagrangian(50, 50)
    assert search(RARTSJacobi(), weights, 200).diverged
    near = solve(RARTS(), weights, 1250)
    assert_near(near, limit(50, 50))


def test_rarts_diverges_where_no_equilibrium_is_stable():
    assert limit(0.4, 1) is None
    end = search(RARTS(), Lagrangian(0.4, 1), 1500, SolvableModel(eta=0.4))
    assert end.diverged
    assert not end.converged
    assert math.isfinite(end.point.alpha)


@pytest.mark.parametrize("first", ["w", "alpha"])
def test_first_order_darts_ends_at_the_spurious_point(first):
    assert_near(solve(DARTS1(first), Lagrangian(), 250, SolvableModel(eta=0.2)), Point(2, 2, None))


@pytest.mark.parametrize(("lam", "eta"), [(0.3, 0.4), (1, 0.3), (10, 0.1)])
def test_milenas_ends_at_the_spurious_point(lam, eta):
    end = solve(MiLeNAS(), Lagrangian(lam, 0), 280, SolvableModel(eta=eta))
    assert_near(end, Point(2, 2, None))


@pytest.mark.parametrize("xi", [0.0, 0.1, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("derivative", ["exact", "finite-difference"])
@pytest.mark.parametrize("first", ["w", "alpha"])
def test_second_order_darts_ends_at_2_over_1_plus_2_xi(xi, derivative, first):
    rule = DARTS2(xi, derivative, first)
    end = solve(rule, Lagrangian(), 180, SolvableModel(eta=min(0.2, 0.7 / (1 + 2 * xi))))
    wanted = 2 / (1 + 2 * xi)
    assert_near(end, Point(wanted, wanted, None))


@pytest.mark.parametrize("derivative", ["exact", "finite-difference"])
@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_without_xi_the_virtual_step_has_the_learning_rate(derivative, momentum):
    model = SolvableModel(eta=0.15, momentum=momentum)
    end = solve(DARTS2(None, derivative), Lagrangian(), 250, model)
    assert_near(end, Point(2 / 1.3, 2 / 1.3, None))


@pytest.mark.parametrize("lam", [0.6, 2, 10, 40])
def test_joint_training_ends_at_its_own_point(lam):
    """The Hessian's eigenvalues are 1 and 4 lambda - 1."""
    model = SolvableModel(eta=2 / max(4 * lam, 2))
    end = solve(Joint(), Lagrangian(lam, 0), int(35 * lam) + 60, model)
    assert_near(end, Point(4 * lam / (4 * lam - 1), (4 * lam - 2) / (4 * lam - 1), None))


def test_joint_training_diverges_below_its_bound():
    assert closed_form(Joint(), Lagrangian(0.2, 0)) is None
    assert search(Joint(), Lagrangian(0.2, 0), 500, SolvableModel(eta=0.5)).diverged


def test_weights_only_leaves_alpha():
    model = SolvableModel(Point(1.7, -2.0, None), eta=0.1)
    end = search(WeightsOnly(), Lagrangian(3, 0), 400, model)
    assert end.converged
    assert end.point == Point(1.7, pytest.approx(1.7 * (1 - 1 / 6), abs=1e-9), None)


@pytest.mark.parametrize("rule", [RARTS(), RARTSJacobi()])
def test_decoupled_coupling_of_plain_sgd_is_the_coupling_in_the_gradient(rule):
    ends = [
        solve(rule, Lagrangian(7, 3, coupling=coupling), 50)
        for coupling in ("gradient", "decoupled")
    ]
    assert_near(*ends, 1e-12)


@pytest.mark.parametrize("rule", [RARTS(), RARTSJacobi()])
@pytest.mark.parametrize("momentum", [0.5, 0.6])
def test_decoupled_coupling_under_momentum_has_the_limit_of_a_smaller_beta(rule, momentum):
    """At rest g / (1 - momentum) + beta (w - u) = 0. In the gradient, nothing changes."""
    for coupling, beta in (("decoupled", (1 - momentum) * 10), ("gradient", 10)):
        weights = Lagrangian(10, 10, coupling=coupling)
        model = SolvableModel(eta=0.02, momentum=momentum)
        solve(rule, weights, 650, model)
        assert_near(model.point, limit(10, beta))
        assert_near(closed_form(rule, weights, model), limit(10, beta), 1e-12)


def test_decoupled_coupling_of_adam_pulls_at_one_over_beta():
    """At rest Adam's steps are eta times a sign, so that w and u stand 1 / beta apart, or nearer."""
    model, weights = SolvableModel(eta=0.003), Lagrangian(10, 10, coupling="decoupled")
    players = {
        name: Player([model.values[name]], torch.optim.Adam([model.values[name]], lr=0.003))
        for name in RARTS.players
    }
    stepper = Stepper(players, weights)
    for _ in range(700):
        stepper.run(RARTS(), model)
    assert abs(model.point.w - model.point.u) < 1.05 / 10


@pytest.mark.parametrize("name", ["lam", "beta"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), "1"])
def test_weights_of_the_lagrangian_are_checked(name, value):
    with pytest.raises(ValueError, match=name):
        Lagrangian(**{name: value})


def test_coupling_is_checked():
    with pytest.raises(ValueError, match="'Gradient'"):
        Lagrangian(coupling="Gradient")


def test_steps_too_short_to_move_a_number_are_no_convergence():
    end = search(RARTS(), Lagrangian(10, 10), 25, SolvableModel(eta=1e-18))
    assert not end.converged
    assert end.steps == 25
    assert end.residuals["w"] == pytest.approx(100)


def test_infinite_values_are_divergence():
    end = search(RARTS(), Lagrangian(1e6, 10), 50, SolvableModel(eta=1e300))
    assert end.diverged
    assert end.steps <= 2
