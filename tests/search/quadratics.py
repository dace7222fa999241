"""Random quadratic losses of several variables, whose searches are linear recursions."""

from dataclasses import dataclass

import numpy as np
import torch

from rarts_mm.search import ALPHA, AUXILIARY, PRIMARY, Lagrangian, Player, Problem, Stepper

WEIGHTS, ALPHAS = 3, 2


@dataclass
class Quadratic:
    """1/2 z^T H z + b^T z of z = (weights, alpha)."""

    hessian: np.ndarray
    linear: np.ndarray

    @classmethod
    def random(cls, generator: np.random.Generator, low: float, high: float) -> "Quadratic":
        """Eigenvalues drawn from [low, high], the largest in absolute value at an end."""
        size = WEIGHTS + ALPHAS
        values = generator.uniform(low, high, size)
        values[0] = low if abs(low) > abs(high) else high
        basis, _ = np.linalg.qr(generator.normal(size=(size, size)))
        hessian = basis * values @ basis.T
        return cls((hessian + hessian.T) / 2, generator.normal(size=size))

    @property
    def lipschitz(self) -> float:
        return float(np.abs(np.linalg.eigvalsh(self.hessian)).max())


class Quadratics(Problem):
    """L_p(u, alpha) and L_a(w, alpha), both quadratic; any number of searches at once.

    Args:
        primary, auxiliary: the losses.
        rows: searches that run beside each other without touching; every tensor has so many rows.
        noise: standard deviation of the linear term that :meth:`draw` adds to both losses.
    """

    def __init__(self, primary: Quadratic, auxiliary: Quadratic, start, rows: int = 1, noise=0.0):
        self.losses = {PRIMARY: primary, AUXILIARY: auxiliary}
        self.tensors = {
            half: (torch.from_numpy(q.hessian), torch.from_numpy(q.linear))
            for half, q in self.losses.items()
        }
        w, u, alpha = np.split(np.asarray(start, float), [WEIGHTS, 2 * WEIGHTS])
        self.values = {
            name: torch.tensor(np.tile(x, (rows, 1)), requires_grad=True)
            for name, x in ((AUXILIARY, w), (PRIMARY, u), (ALPHA, alpha))
        }
        self.deviation = noise
        self.noise = {half: torch.zeros(rows, WEIGHTS + ALPHAS).double() for half in self.losses}

    def draw(self, generator: torch.Generator) -> None:
        """New batches: new linear terms, the same within a step."""
        for noise in self.noise.values():
            noise.normal_(generator=generator).mul_(self.deviation)

    def loss(self, network, half, part=0):
        z = torch.cat([self.values[network], self.values[ALPHA]], 1)
        hessian, linear = self.tensors[half]
        return (0.5 * z @ hessian * z + z * (linear + self.noise[half])).sum()

    def stepper(self, weights: Lagrangian, etas: dict[str, float]) -> Stepper:
        weights.bind({"a": self.values[ALPHA]})
        return Stepper(
            {
                name: Player([x], torch.optim.SGD([x], lr=etas[name]))
                for name, x in self.values.items()
            },
            weights,
        )

    @property
    def z(self) -> np.ndarray:
        """(rows, n) of (w, u, alpha)."""
        order = (AUXILIARY, PRIMARY, ALPHA)
        return np.concatenate([self.values[name].detach().numpy() for name in order], 1)

    def full(self, lam: float, beta: float) -> tuple[np.ndarray, np.ndarray]:
        """Hessian and linear term of the Lagrangian by (w, u, alpha), without penalties."""
        n, m = WEIGHTS, ALPHAS
        hessian, linear = np.zeros((2 * n + m, 2 * n + m)), np.zeros(2 * n + m)
        for half, factor, first in ((AUXILIARY, lam, 0), (PRIMARY, 1.0, n)):
            place = np.r_[first : first + n, 2 * n : 2 * n + m]
            hessian[np.ix_(place, place)] += factor * self.losses[half].hessian
            linear[place] += factor * self.losses[half].linear
        eye = np.eye(n)
        hessian[: 2 * n, : 2 * n] += beta * np.block([[eye, -eye], [-eye, eye]])
        return hessian, linear

    def value(self, weights: Lagrangian) -> np.ndarray:
        """(rows,) the Lagrangian without noise, penalties included where there is one row."""
        hessian, linear = self.full(weights.lam, weights.beta)
        z = self.z
        value = 0.5 * np.einsum("ri,ij,rj->r", z, hessian, z) + z @ linear
        alphas = [self.values[ALPHA].detach()]
        return value + sum(float(penalty.value(alphas)) for penalty in weights.penalties)


def gauss_seidel(hessian: np.ndarray, eta: float) -> np.ndarray:
    """B with z_new = z - eta B (H z + b): the steps of w, u and alpha with new values used at once."""
    n, m = WEIGHTS, ALPHAS
    block = np.repeat([0, 1, 2], [n, n, m])
    below = np.where(block[:, None] > block[None], hessian, 0.0)
    return np.linalg.inv(np.eye(len(block)) + eta * below)
