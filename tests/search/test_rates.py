"""How fast RARTS converges (thesis, Corollary 2.6), and with noise (Corollary 2.8)."""

import numpy as np
import pytest
import torch

from rarts_mm.search import ALPHA, AUXILIARY, PRIMARY, RARTS, Lagrangian
from tests.search.quadratics import ALPHAS, WEIGHTS, Quadratic, Quadratics, gauss_seidel

SIZE = 2 * WEIGHTS + ALPHAS


class Setup:
    """A convex random problem and the constants of the corollaries."""

    def __init__(self, seed: int, low: float, lam: float, beta: float) -> None:
        self.generator = np.random.default_rng(seed)
        self.losses = [Quadratic.random(self.generator, low, 2.0) for _ in range(2)]
        self.lam, self.beta, self.weights = lam, beta, Lagrangian(lam, beta)
        self.hessian, self.linear = Quadratics(*self.losses, np.zeros(SIZE)).full(lam, beta)
        # One constant for the losses and the Lagrangian, as the corollary's proof has it.
        values = np.linalg.eigvalsh(self.hessian)
        self.mu, self.lipschitz = values[0], max(values[-1], *(q.lipschitz for q in self.losses))
        self.inverse_c = [
            beta + 2 * self.lipschitz,
            beta + 2 * lam * self.lipschitz,
            2 * (1 + lam) * self.lipschitz,
        ]
        self.c4 = 0.5 * min(self.inverse_c)
        self.eta = min(1 / (3 * self.lipschitz), *(0.999 / x for x in self.inverse_c))

    def problem(self, rows: int = 1, noise: float = 0.0) -> Quadratics:
        return Quadratics(*self.losses, self.start, rows, noise)

    @property
    def start(self) -> np.ndarray:
        return 3 * np.random.default_rng(7).normal(size=SIZE)

    def stepper(self, problem: Quadratics):
        return problem.stepper(self.weights, dict.fromkeys((AUXILIARY, PRIMARY, ALPHA), self.eta))

    def least(self) -> tuple[np.ndarray, float]:
        """A minimiser and the minimum L*."""
        z = -np.linalg.pinv(self.hessian, rcond=1e-10) @ self.linear
        return z, 0.5 * z @ self.hessian @ z + self.linear @ z

    def run(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """(steps + 1, n) iterates and (steps + 1,) Lagrangian - L*."""
        problem = self.problem()
        stepper, (_, least) = self.stepper(problem), self.least()
        z, gaps = [problem.z[0].copy()], [problem.value(self.weights)[0] - least]
        for _ in range(steps):
            stepper.run(RARTS(), problem)
            z.append(problem.z[0].copy())
            gaps.append(problem.value(self.weights)[0] - least)
        return np.array(z), np.array(gaps)


STRONG = [(0, 1.0, 1.0), (1, 3.0, 0.5), (2, 0.4, 6.0), (3, 8.0, 8.0)]


@pytest.mark.parametrize(("seed", "lam", "beta"), STRONG)
def test_the_iterates_are_the_linear_recursion(seed, lam, beta):
    """On quadratics a step is z - eta B (H z + b), with B from the order of the updates."""
    setup = Setup(seed, 0.3, lam, beta)
    found, _ = setup.run(30)
    z, step = setup.start, gauss_seidel(setup.hessian, setup.eta)
    for here in found[1:]:
        z = z - setup.eta * step @ (setup.hessian @ z + setup.linear)
        np.testing.assert_allclose(here, z, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("seed", "lam", "beta"), STRONG)
def test_strongly_convex_converges_linearly(seed, lam, beta):
    """Corollary 2.6 (i), step by step: the gap shrinks by 1 - c4 eta^2 mu / 3 at least."""
    setup = Setup(seed, 0.3, lam, beta)
    assert setup.mu > 0.01
    _, gaps = setup.run(120)
    factor = 1 - setup.c4 * setup.eta**2 * setup.mu / 3
    gaps = gaps[gaps > 1e-9]
    assert 0.9 < factor < 1
    assert (gaps[1:] <= factor * gaps[:-1] + 1e-12).all()
    # The rate itself is that of the recursion, squared, as the gap is a square.
    radius = np.abs(
        np.linalg.eigvals(
            np.eye(SIZE) - setup.eta * gauss_seidel(setup.hessian, setup.eta) @ setup.hessian
        )
    ).max()
    assert (gaps[-1] / gaps[-11]) ** 0.1 == pytest.approx(radius**2, rel=0.02)


@pytest.mark.parametrize(("seed", "lam", "beta"), STRONG[:3])
def test_convex_converges_sublinearly(seed, lam, beta):
    """Corollary 2.6 (ii): the gap after t steps is at most 6 M^2 / (c4 eta^2 t)."""
    setup = Setup(seed, 0.0, lam, beta)
    # Both losses are blind to one and the same direction, in which alpha, u and w lie.
    blind = np.random.default_rng(seed + 10).normal(size=WEIGHTS + ALPHAS)
    away = np.eye(WEIGHTS + ALPHAS) - np.outer(blind, blind) / (blind @ blind)
    for loss in setup.losses:
        loss.hessian, loss.linear = away @ loss.hessian @ away, away @ loss.linear
    setup.hessian, setup.linear = setup.problem().full(lam, beta)
    values = np.linalg.eigvalsh(setup.hessian)
    assert abs(values[0]) < 1e-12
    assert values[1] > 1e-6
    z, gaps = setup.run(120)
    nearest, _ = setup.least()
    # The limit: the minimiser at which the search ends, here by the recursion's powers.
    matrix = np.eye(SIZE) - setup.eta * gauss_seidel(setup.hessian, setup.eta) @ setup.hessian
    limit = nearest + np.linalg.matrix_power(matrix, 2**40) @ (z[0] - nearest)
    np.testing.assert_allclose(setup.hessian @ limit + setup.linear, 0, atol=1e-8)
    reach = np.linalg.norm(z - limit, axis=1).max()
    t = np.arange(1, len(gaps))
    assert (gaps >= -1e-10).all()
    assert (gaps[1:] <= 6 * reach**2 / (setup.c4 * setup.eta**2 * t)).all()
    # Each step gains at least what the proof says (eq. 2.33).
    gain = gaps[:-1] - gaps[1:]
    assert (gain >= setup.c4 * setup.eta**2 / (6 * reach**2) * gaps[:-1] ** 2 - 1e-12).all()


@pytest.mark.parametrize(("seed", "lam", "beta"), STRONG)
def test_with_noise_the_expected_lagrangian_ends_in_its_ball(seed, lam, beta):
    """Corollary 2.8, eq. 2.37, with the smallest M and C of eq. 2.35, K = 1; and the expectation by
    the recursion of mean and covariance, which is exact."""
    setup, rows, deviation = Setup(seed, 0.3, lam, beta), 4000, 0.8
    # The noise of w's, u's and alpha's gradients: L_a's times lambda, and alpha sees both.
    spread = deviation * np.repeat([lam, 1.0, np.hypot(lam, 1.0)], [WEIGHTS, WEIGHTS, ALPHAS])
    covariance = np.diag(spread**2)

    # The gradients of one step's sub-steps are B (gradient + noise): M and C from that.
    def constants():
        step = gauss_seidel(setup.hessian, setup.eta)
        return np.trace(step @ covariance @ step.T), np.linalg.norm(step, 2) ** 2

    while setup.eta > 1 / (4 * constants()[1] * setup.lipschitz):
        setup.eta *= 0.9
    m, c = constants()
    step = gauss_seidel(setup.hessian, setup.eta)
    mu, eta, lipschitz = setup.mu, setup.eta, setup.lipschitz
    assert eta <= min(1 / (3 * lipschitz), 1 / (4 * c * lipschitz))
    ball = 2 * m * lipschitz * eta / mu

    least, minimum = setup.least()
    problem = setup.problem(rows, deviation)
    stepper, generator = setup.stepper(problem), torch.Generator().manual_seed(seed)
    matrix = np.eye(SIZE) - eta * step @ setup.hessian
    mean, second = setup.start - least, np.zeros((SIZE, SIZE))
    first = 0.5 * mean @ setup.hessian @ mean
    for t in range(1, 121):
        problem.draw(generator)
        stepper.run(RARTS(), problem)
        gaps = problem.value(setup.weights) - minimum
        error = gaps.std() / rows**0.5
        assert gaps.mean() - ball <= (1 - mu * eta / 2) ** t * (first - ball) + 4 * error
        mean = matrix @ mean
        second = matrix @ second @ matrix.T + eta**2 * step @ covariance @ step.T
        wanted = 0.5 * mean @ setup.hessian @ mean + 0.5 * np.trace(setup.hessian @ second)
        assert gaps.mean() == pytest.approx(wanted, abs=5 * error + 1e-9)
    # It is noise that keeps it from the minimum, and the ball is where it stays.
    assert 0 < gaps.mean() < ball
