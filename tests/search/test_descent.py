"""Theorem 2.2 of the thesis: below the bounds of eq. 2.15 the Lagrangian never rises."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rarts_mm.search import (
    ALPHA,
    AUXILIARY,
    PRIMARY,
    RARTS,
    L1Penalty,
    Lagrangian,
    LatencyPenalty,
    ProximalL1,
    RARTSJacobi,
    SolvableModel,
    solve,
)
from tests.search.quadratics import ALPHAS, WEIGHTS, Quadratic, Quadratics

SIZE = 2 * WEIGHTS + ALPHAS
problems = dict(
    seed=st.integers(0, 2**32 - 1),
    lam=st.floats(0.01, 20.0),
    beta=st.floats(0.0, 20.0),
    gamma=st.floats(0.01, 5.0),
    low=st.floats(-3.0, 3.0),
    share=st.floats(0.05, 0.999),
)
quickly = settings(max_examples=30, deadline=None, derandomize=True)


def bounds(lam: float, beta: float, gamma: float, lipschitz: float) -> dict[str, float]:
    """c_1, c_2, c_3 of eq. 2.15."""
    return {
        PRIMARY: 0.5 / (beta / 2 + lipschitz),
        AUXILIARY: 0.5 / (beta / 2 + lam * lipschitz),
        ALPHA: 0.5 / ((1 + lam + gamma / 2) * lipschitz),
    }


def run(problem, weights, etas, gamma, lipschitz, steps=8):
    """Check descent step by step, and by how much (eq. 2.18)."""
    lam, beta = weights.lam, weights.beta
    stepper = problem.stepper(weights, etas)
    # Minus what stands in the brackets of eq. 2.18.
    gains = np.repeat(
        [
            1 / etas[AUXILIARY] - lam * lipschitz - beta / 2,
            1 / etas[PRIMARY] - lipschitz - beta / 2,
            1 / etas[ALPHA] - (1 + lam + gamma / 2) * lipschitz,
        ],
        [WEIGHTS, WEIGHTS, ALPHAS],
    )
    assert (gains > 0).all()
    value, z = problem.value(weights)[0], problem.z[0]
    scale = 1 + abs(value)
    for _ in range(steps):
        stepper.run(RARTS(), problem)
        new, z_new = problem.value(weights)[0], problem.z[0]
        scale = max(scale, abs(new), np.square(z_new).sum())
        assert new <= value + 1e-11 * scale
        assert value - new >= gains @ np.square(z_new - z) - 1e-11 * scale
        value, z = new, z_new


def make(seed, low):
    generator = np.random.default_rng(seed)
    losses = [Quadratic.random(generator, low, generator.uniform(max(low, 0.0), 3.0) + 0.01)]
    losses.append(Quadratic.random(generator, low, 3.0))
    problem = Quadratics(*losses, generator.normal(size=SIZE) * 3)
    return generator, problem, max(q.lipschitz for q in losses)


@quickly
@given(**problems)
def test_without_a_penalty(seed, lam, beta, gamma, low, share):
    _, problem, lipschitz = make(seed, low)
    etas = {k: share * c for k, c in bounds(lam, beta, 0.0, lipschitz).items()}
    run(problem, Lagrangian(lam, beta), etas, 0.0, lipschitz)


@quickly
@given(**problems)
def test_with_a_latency_penalty(seed, lam, beta, gamma, low, share):
    """P has a Lipschitz gradient (Proposition 2.9): with d = Lat - <p, Lat>, its Hessian is
    diag(p d) - p (p d)^T - (p d) p^T, of a norm of at most 3 max |d|."""
    generator, problem, lipschitz = make(seed, low)
    latencies = generator.uniform(0, lipschitz / 3, ALPHAS)
    penalty = LatencyPenalty({"a": latencies}, gamma)
    etas = {k: share * c for k, c in bounds(lam, beta, gamma, lipschitz).items()}
    run(problem, Lagrangian(lam, beta, (penalty,)), etas, gamma, lipschitz)


@quickly
@given(**problems)
def test_with_a_proximal_penalty(seed, lam, beta, gamma, low, share):
    """Not in the theorem, since |alpha| has no gradient at 0; but a proximal step on a convex P
    gains at least what a gradient step on the rest gains, so that the bounds for gamma = 0 hold."""
    _, problem, lipschitz = make(seed, low)
    etas = {k: share * c for k, c in bounds(lam, beta, 0.0, lipschitz).items()}
    run(problem, Lagrangian(lam, beta, (ProximalL1(gamma),)), etas, 0.0, lipschitz)


@quickly
@given(**problems)
def test_with_a_subgradient_as_long_as_no_score_changes_its_sign(
    seed, lam, beta, gamma, low, share
):
    """There the gradient of gamma |alpha|_1 is constant. Across zero the theorem says nothing."""
    _, problem, lipschitz = make(seed, low)
    with torch.no_grad():
        problem.values[ALPHA].add_(1e3 * problem.values[ALPHA].sign())
    etas = {k: 0.02 * share * c for k, c in bounds(lam, beta, 0.0, lipschitz).items()}
    signs = problem.values[ALPHA].sign()
    run(problem, Lagrangian(lam, beta, (L1Penalty(gamma),)), etas, 0.0, lipschitz, steps=4)
    assert torch.equal(problem.values[ALPHA].sign(), signs)


def test_a_subgradient_step_across_zero_may_rise():
    """Why the theorem asks for a Lipschitz gradient of P."""
    flat = Quadratic(np.zeros((WEIGHTS + ALPHAS,) * 2), np.zeros(WEIGHTS + ALPHAS))
    problem = Quadratics(flat, flat, [0.0] * (SIZE - 1) + [1e-3])
    weights = Lagrangian(1, 1, (L1Penalty(1.0),))
    before = problem.value(weights)[0]
    etas = {AUXILIARY: 0.1, PRIMARY: 0.1, ALPHA: 0.01}
    problem.stepper(weights, etas).run(RARTS(), problem)
    assert problem.value(weights)[0] == pytest.approx(9 * before)


@pytest.mark.parametrize("name", [AUXILIARY, PRIMARY, ALPHA])
def test_beyond_four_times_the_bound_it_can_rise(name):
    """The bounds are not empty: the largest curvature that they allow for each block, 1/c - beta or
    half of it, is met by an example, which a step of more than 2 / curvature makes worse."""
    lam, beta, lipschitz = 2.0, 1.5, 3.0
    steep = Quadratic(lipschitz * np.eye(WEIGHTS + ALPHAS), np.zeros(WEIGHTS + ALPHAS))
    start = np.zeros(SIZE)
    place = {AUXILIARY: 0, PRIMARY: WEIGHTS, ALPHA: 2 * WEIGHTS}[name]
    start[place] = 1.0
    problem, weights = Quadratics(steep, steep, start), Lagrangian(lam, beta)
    etas = dict.fromkeys(bounds(lam, beta, 0, lipschitz), 1e-9)
    etas[name] = 4.2 * bounds(lam, beta, 0, lipschitz)[name]
    before = problem.value(weights)[0]
    problem.stepper(weights, etas).run(RARTS(), problem)
    assert problem.value(weights)[0] > before


@quickly
@given(**problems)
def test_simultaneous_updates_descend_too(seed, lam, beta, gamma, low, share):
    """Not in the thesis: the Hessian is at most diag(2 beta + L, 2 beta + lambda L, (1 + lambda) L),
    less than 2 / c in each block. What Jacobi loses is stability beyond the bounds."""
    _, problem, lipschitz = make(seed, low)
    weights = Lagrangian(lam, beta)
    etas = {k: share * c for k, c in bounds(lam, beta, 0.0, lipschitz).items()}
    stepper = problem.stepper(weights, etas)
    value = problem.value(weights)[0]
    for _ in range(8):
        stepper.run(RARTSJacobi(), problem)
        new = problem.value(weights)[0]
        assert new <= value + 1e-11 * (1 + abs(value) + abs(new) + np.square(problem.z).sum())
        value = new


def test_on_the_solvable_model():
    weights = Lagrangian(3, 2)
    # L_a's Hessian has eigenvalues 0 and 4, L_p's -1 and 1.
    eta = 0.99 * min(bounds(3, 2, 0, 4.0).values())
    model = SolvableModel(eta=eta)
    values = [model.lagrangian(weights)]
    for _ in range(300):
        solve(RARTS(), weights, 1, model)
        values.append(model.lagrangian(weights))
    assert (np.diff(values) <= 1e-12).all()
    assert values[-1] < values[0] - 49
