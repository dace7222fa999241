"""The virtual step of second-order DARTS."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import SGD

from .player import Player


class VirtualStep:
    """Within this context weights may stand elsewhere; at its end they are back, bit for bit.

    With SGD the virtual step is what the optimiser would do with a gradient g: weight decay,
    momentum buffer, dampening and Nesterov included (its buffer stays as it is). With any other
    optimiser it is the plain step of length xi along g.

    Args:
        player: the weights.
        xi: length of the step, or None for each group's learning rate.
    """

    def __init__(self, player: Player, xi: float | None) -> None:
        self.player = player
        self.xi = xi
        self._saved: list[Tensor] = []
        self._derivative: list[float] = []

    def __enter__(self) -> "VirtualStep":
        # New storage, so that what a graph has saved of the weights stays what it was.
        self._saved = [p.data for p in self.player.params]
        for p in self.player.params:
            p.data = p.data.clone()
        return self

    def __exit__(self, *error: object) -> None:
        for p, saved in zip(self.player.params, self._saved, strict=True):
            p.data = saved
        self._saved = []

    def take(self, gradient: Sequence[Tensor]) -> None:
        """Put the weights where a step with this gradient leads; the gradient's memory is reused."""
        self._derivative = [0.0] * len(gradient)
        for group, indices in self.player.groups():
            g = [gradient[i] for i in indices]
            w = [self._saved[i] for i in indices]
            of_gradient = 1.0
            if isinstance(self.player.optimizer, SGD):
                of_gradient = self._sgd_direction_(group, indices, g, w)
            length = group["lr"] if self.xi is None else self.xi
            for i in indices:
                self._derivative[i] = length * of_gradient
            torch._foreach_add_([self.player.params[i].data for i in indices], g, alpha=-length)

    def _sgd_direction_(
        self, group: dict, indices: Sequence[int], g: list[Tensor], w: list[Tensor]
    ) -> float:
        """Turn gradients into SGD's direction in place; return the direction's derivative by g."""
        if group.get("maximize"):
            torch._foreach_neg_(g)
        if group["weight_decay"]:
            torch._foreach_add_(g, w, alpha=group["weight_decay"])
        sign = -1.0 if group.get("maximize") else 1.0
        momentum = group["momentum"]
        if not momentum:
            return sign
        state = self.player.optimizer.state
        buffers = [state[self.player.params[i]].get("momentum_buffer") for i in indices]
        if any(b is None for b in buffers):
            # The first step's buffer is the gradient itself.
            if group["nesterov"]:
                torch._foreach_mul_(g, 1 + momentum)
                return sign * (1 + momentum)
            return sign
        own = 1 - group["dampening"]
        if group["nesterov"]:
            own = 1 + momentum * own
        torch._foreach_mul_(g, own)
        carried = momentum**2 if group["nesterov"] else momentum
        torch._foreach_add_(g, buffers, alpha=carried)
        return sign * own

    def scale(self, v: list[Tensor]) -> list[Tensor]:
        """Multiply v by minus the derivative of the virtual point by the gradient, in place."""
        torch._foreach_mul_(v, self._derivative)
        return v

    def put(self, direction: Sequence[Tensor], length: float) -> None:
        """Put the weights at w + length * direction."""
        here = [p.data for p in self.player.params]
        torch._foreach_copy_(here, self._saved)
        torch._foreach_add_(here, list(direction), alpha=length)
