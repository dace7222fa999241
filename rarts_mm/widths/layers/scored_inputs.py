"""Layers whose inputs are multiplied by scores: channels on their way into the next layer."""

import torch.nn.functional as F
from torch import Tensor, nn

from .referring import RefersToAlpha
from .sliced_layers import SlicedConv2d, SlicedConvTranspose2d
from .sliced_linear import SlicedLinear


class ScoredInputs(RefersToAlpha):
    """``y = layer(x * alpha)``: scores on the input channels of a layer (thesis, section 4.2).

    Behind batch norm and activation, where a channel enters the next layer, a score of zero removes
    it exactly; in front of a batch norm the normalisation would undo the score.

    Alpha is referred to, not registered, as in :class:`~rarts_mm.widths.ScoredLinear`. A layer gets
    scores by :func:`score_inputs`, which leaves the layer object, its Parameters and their names.
    """

    def bind(self, alpha: Tensor) -> None:
        """Refer to ``alpha``, (channels,), from now on; a linear layer behind a flattened map has
        several inputs per channel, one after the other."""
        inputs = self.in_features if isinstance(self, nn.Linear) else self.in_channels
        if alpha.ndim != 1 or inputs % alpha.numel():
            raise ValueError(
                f"alpha has shape {tuple(alpha.shape)}, which does not fit the layer's {inputs} inputs."
            )
        self.refer(alpha)

    def forward(self, x: Tensor, *args, **kwargs) -> Tensor:
        if not args and not kwargs and self.folds(x.numel()):
            return self._with_weight(x, self.weight * self._scores(self.weight, folded=True))
        # Under autocast the input may be of lower precision: alpha must not promote all that follows.
        return super().forward(x * self._scores(x), *args, **kwargs)

    def _scores(self, like: Tensor, folded: bool = False) -> Tensor:
        """Alpha to multiply the layer's input with, or its weight."""
        scores = self.alpha.to(like.dtype)
        if isinstance(self, nn.Linear):
            return scores.repeat_interleave(self.in_features // len(scores))
        if folded and isinstance(self, nn.ConvTranspose2d):
            return scores[:, None, None, None]
        return scores[:, None, None]

    def _with_weight(self, x: Tensor, weight: Tensor) -> Tensor:
        """What the layer computes with another weight."""
        if isinstance(self, nn.Linear):
            return F.linear(x, weight, self.bias)
        if isinstance(self, nn.ConvTranspose2d):
            padding = self.padding, self.output_padding
            settings = self.stride, *padding, self.groups, self.dilation
            return F.conv_transpose2d(x, weight, self.bias, *settings)
        return self._conv_forward(x, weight, self.bias)


# The plain class stands among the bases by name, as MMEngine's initialisers look there.
class InputScoredLinear(ScoredInputs, nn.Linear):
    """A linear layer with scores on its inputs."""


class InputScoredConv2d(ScoredInputs, nn.Conv2d):
    """A convolution with scores on its input channels."""


class InputScoredConvTranspose2d(ScoredInputs, nn.ConvTranspose2d):
    """A transposed convolution with scores on its input channels."""


class InputScoredSlicedLinear(ScoredInputs, SlicedLinear, nn.Linear):
    """A linear layer of a pruned network that is searched again."""


class InputScoredSlicedConv2d(ScoredInputs, SlicedConv2d, nn.Conv2d):
    """A convolution of a pruned network that is searched again."""


class InputScoredSlicedConvTranspose2d(ScoredInputs, SlicedConvTranspose2d, nn.ConvTranspose2d):
    """A transposed convolution of a pruned network that is searched again."""


# In this order: the first class that a layer is of counts.
_SCORED = {
    SlicedLinear: InputScoredSlicedLinear,
    SlicedConv2d: InputScoredSlicedConv2d,
    SlicedConvTranspose2d: InputScoredSlicedConvTranspose2d,
    nn.Linear: InputScoredLinear,
    nn.Conv2d: InputScoredConv2d,
    nn.ConvTranspose2d: InputScoredConvTranspose2d,
}


def score_inputs(layer: nn.Module, alpha: Tensor) -> None:
    """Let a layer multiply its inputs by ``alpha``, (channels,), in place."""
    kind = next(k for k in _SCORED if isinstance(layer, k))
    layer.__class__ = _SCORED[kind]
    layer.bind(alpha)
