"""Penalties that act by their gradient."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Penalty


class SmoothPenalty(Penalty):
    """A penalty whose gradient is added to that of the losses, after clipping.

    To write one, define :meth:`~Penalty.value` with torch's operations: its gradient is taken by
    autograd. A subclass that knows it in closed form may define :meth:`gradient` too.
    """

    def gradient(self, alphas: Sequence[Tensor]) -> Sequence[Tensor]:
        """d value / d alpha, gamma included, for each alpha; a subgradient at kinks.

        Raises:
            TypeError: ``value`` is no tensor of one number.
            RuntimeError: it does not depend on alpha.
        """
        # Leaves of their own: no other graph is touched, and alpha's gradients stay as they are.
        leaves = [alpha.detach().requires_grad_() for alpha in alphas]
        with torch.enable_grad(), torch.autocast(leaves[0].device.type, enabled=False):
            value = self.value(leaves)
        name = type(self).__name__
        if not isinstance(value, Tensor) or value.numel() != 1:
            found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
            raise TypeError(f"{name}.value must return a tensor of one number, got {found}")
        if not value.requires_grad:
            raise RuntimeError(
                f"{name}.value does not depend on alpha in a way that autograd can follow, so that the "
                "penalty would do nothing; compute it from the given alphas with torch's operations, "
                "without detach(), item(), NumPy or no_grad()"
            )
        found = torch.autograd.grad(value, leaves, allow_unused=True)
        return [torch.zeros_like(a) if g is None else g for a, g in zip(alphas, found, strict=True)]

    def add_gradient_(self, alphas: Sequence[Tensor], factor: float = 1.0) -> None:
        """Add factor * d value / d alpha to every ``alpha.grad`` (which must exist) in place."""
        if self.gamma * factor:
            gradients = [alpha.grad for alpha in alphas]
            torch._foreach_add_(gradients, list(self.gradient(alphas)), alpha=factor)

    def residual_(
        self, gradients: Sequence[Tensor], alphas: Sequence[Tensor], factor: float
    ) -> None:
        if self.gamma * factor:
            torch._foreach_add_(list(gradients), list(self.gradient(alphas)), alpha=factor)
