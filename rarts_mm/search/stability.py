"""How large eta * beta may be before the coupled pair u, w runs away.

Without losses, the coupling beta/2 |u - w|^2 alone should draw u and w together. Whether it does is a
property of the optimiser and of the alternation: with SGD of momentum mu and the coupling in the
gradient, Gauss-Seidel updates are stable for eta * beta < 2 (1 - mu) and Jacobi updates for
eta * beta < 1 + mu; decoupled, for 2 and for 1. Adaptive optimisers normalise the pull and have no
such bound.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Descent:
    """The settings of SGD that the coupling's stability depends on."""

    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False


def coupling_radius(
    step_w: float, step_u: float, descent: Descent, simultaneous: bool, decoupled: bool = False
) -> float:
    """By how much the distance of u and w is multiplied per step in the long run, without losses.

    Args:
        step_w, step_u: eta * beta of each network.
        descent: the optimiser.
        simultaneous: both read old values (Jacobi), or u reads the new w (Gauss-Seidel).
        decoupled: the coupling acts beside the optimiser.

    Returns:
        The spectral radius of the linear recurrence on (w, u, momentum of w, momentum of u), the
        mode u = w (which the coupling leaves where it is) left out; below 1 is stable.
    """
    w, u, m_w, m_u = np.eye(4)

    def move(x: np.ndarray, other: np.ndarray, buffer: np.ndarray, step: float):
        pull = x - other
        if decoupled:
            return x - step * pull, 0 * buffer
        buffer = descent.momentum * buffer + (1 - descent.dampening) * pull
        direction = pull + descent.momentum * buffer if descent.nesterov else buffer
        return x - step * direction, buffer

    new_w, new_m_w = move(w, u, m_w, step_w)
    new_u, new_m_u = move(u, w if simultaneous else new_w, m_u, step_u)
    modes = np.linalg.eigvals(np.stack([new_w, new_u, new_m_w, new_m_u]))
    return float(np.sort(np.abs(np.delete(modes, np.argmin(np.abs(modes - 1)))))[-1])


def coupling_bound(
    descent: Descent, simultaneous: bool, decoupled: bool = False, ratio: float = 1.0
) -> float:
    """The largest eta * beta of w (u's is ``ratio`` times it) that is stable, to six digits."""
    low, high = 0.0, 16.0
    while high - low > 1e-7:
        middle = (low + high) / 2
        radius = coupling_radius(middle, ratio * middle, descent, simultaneous, decoupled)
        low, high = (middle, high) if radius < 1 else (low, middle)
    return low
