"""The residuals of the equilibrium equations (thesis, eq. 2.19, 2.22, 2.24)."""

import pytest

from rarts_mm.search import (
    ALPHA,
    AUXILIARY,
    DARTS1,
    DARTS2,
    PRIMARY,
    RARTS,
    Joint,
    Lagrangian,
    MiLeNAS,
    Point,
    RARTSJacobi,
    SolvableModel,
    Stepper,
    WeightsOnly,
    limit,
)
from rarts_mm.search.solvable import closed_form, residuals
from tests.search.toy import Plain, Setting, Toy
from tests.search.toy_alternations import CASES


@pytest.mark.parametrize(
    ("name", "coupling"),
    [
        *((name, "gradient") for name in CASES),
        ("rarts", "decoupled"),
        ("rarts-jacobi", "decoupled"),
    ],
)
@pytest.mark.parametrize("penalties", ["none", "l1", "proximal", "hard", "latency and l1"])
def test_residuals_are_those_of_plain_autograd(name, penalties, coupling):
    """Coupling and penalty included, before clipping, step by step."""
    case = CASES[name]
    # Hard thresholds make zeros; subgradients at zero count.
    setting = Setting(
        penalties=penalties, coupling=coupling, clip=0.05, gamma_factor=0.9, optimizer="dampening"
    )
    toy = Toy()
    plain = Plain(toy, setting, case.rule.players)
    stepper = setting.stepper(toy, case.rule.players)
    stepper.measure = True
    for _ in range(2):
        stepper.run(case.rule, toy)
        case.plain(plain)
        assert set(stepper.residuals) == set(case.rule.players)
        for player, found in stepper.residuals.items():
            assert found.item() == pytest.approx(plain.residuals[player], rel=1e-10, abs=1e-12)
    if penalties in ("proximal", "hard") and ALPHA in case.rule.players:
        assert any((a == 0).any() for a in toy.alphas)


def test_residuals_are_measured_when_asked_for_only():
    toy, rule = Toy(), RARTS()
    stepper = Setting().stepper(toy, rule.players)
    stepper.run(rule, toy)
    assert stepper.residuals == {}
    stepper.measure = True
    stepper.run(rule, toy)
    noted = dict(stepper.residuals)
    stepper.measure = False
    stepper.run(rule, toy)
    assert stepper.residuals == noted
    stepper.measure = True
    stepper.run(rule, toy, alpha_moves=False)
    assert set(stepper.residuals) == {AUXILIARY, PRIMARY}


LIMITS = {
    "rarts": RARTS(),
    "jacobi": RARTSJacobi(),
    "darts1": DARTS1(),
    "darts1 alpha first": DARTS1(first="alpha"),
    "darts2": DARTS2(0.3),
    "darts2 exact": DARTS2(1.7, "exact"),
    "darts2 eta": DARTS2(derivative="exact"),
    "milenas": MiLeNAS(),
    "joint": Joint(),
    "weights only": WeightsOnly(),
}


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize(("lam", "beta"), [(10, 10), (0.9, 3.7), (33, 1.2)])
def test_residuals_vanish_at_the_closed_form_and_nowhere_near(name, lam, beta):
    rule, weights = LIMITS[name], Lagrangian(lam, beta)
    there = closed_form(rule, weights)
    assert max(residuals(rule, weights, SolvableModel(there)).values()) < 1e-12
    for x, y, z in [(0.1, 0, 0), (0, 0.1, 0), (0, 0, 0.1)]:
        u = None if there.u is None else there.u + z
        if (name == "weights only" and x) or (u is None and z):
            continue  # alpha is anywhere; there is no u
        beside = SolvableModel(Point(there.alpha + x, there.w + y, u))
        assert max(residuals(rule, weights, beside).values()) > 0.01


def test_residuals_off_the_limit_are_the_printed_equations():
    """Thesis, eq. 2.19 on Example 2.4, by hand; one value at a time, so that no order matters."""
    lam, beta, alpha, w, u = 3.0, 2.0, 0.7, -0.4, 1.9
    model, weights = SolvableModel(Point(alpha, w, u)), Lagrangian(lam, beta)
    stepper = Stepper(model.players(RARTSJacobi.players), weights)
    stepper.measure = True
    stepper.run(RARTSJacobi(), model)
    wanted = {
        AUXILIARY: abs(lam * (2 * w - 2 * alpha) + beta * (w - u)),
        PRIMARY: abs(alpha + beta * (u - w)),
        ALPHA: abs(lam * (2 * alpha - 2 * w) + u - 2),
    }
    for name, value in wanted.items():
        assert stepper.residuals[name].item() == pytest.approx(value, abs=1e-12)


def test_a_step_at_the_limit_does_not_move():
    for lam, beta in [(10, 10), (1, 1), (50, 50), (0.7, 4.0)]:
        there = limit(lam, beta)
        model = SolvableModel(there)
        stepper = Stepper(model.players(RARTS.players), Lagrangian(lam, beta))
        stepper.run(RARTS(), model)
        for name, value in vars(model.point).items():
            assert value == pytest.approx(getattr(there, name), abs=1e-13)
