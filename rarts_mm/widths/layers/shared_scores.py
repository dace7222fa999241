"""Layers that refer to scores which somebody else owns."""

import torch
from torch import Tensor, nn

# Scores on a layer's inputs (or all that it has), and on its outputs besides.
_NAMES = ("alpha", "output_alpha")


class SharedScores(nn.Module):
    """A layer with scores that are none of its parameters.

    A move to a device or dtype takes them along, in place.
    """

    alpha: Tensor

    def refer(self, alpha: Tensor, name: str = "alpha") -> None:
        """Refer to ``alpha`` from now on."""
        # Past nn.Module.__setattr__, which would register it.
        self.__dict__[name] = alpha

    def folds(self, elements: int) -> bool:
        """Whether the scores multiply the weight instead of what passes through the layer.

        They do if that is smaller, and nobody asks for alpha's gradient: the product with what passes
        gives that without a matrix product.

        Args:
            elements: number of elements that pass and would be multiplied.
        """
        wanted = torch.is_grad_enabled() and self.alpha.requires_grad
        return not wanted and self.weight.numel() < elements

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        with torch.no_grad():
            for alpha in (self.__dict__[name] for name in _NAMES if name in self.__dict__):
                # The same object, as nn.Module does it for its own: an owner's reference stays true.
                alpha.data = fn(alpha.data)
                if alpha.grad is not None:
                    alpha.grad.data = fn(alpha.grad.data)
        return self
