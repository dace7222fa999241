"""A linear layer whose outputs are multiplied by scores."""

import torch.nn.functional as F
from torch import Tensor, nn

from .shared_scores import SharedScores
from .sliced_linear import SlicedLinear


class ScoredLinear(SharedScores, nn.Linear):
    """``y = (x W^T + b) * alpha``: scores on the output dimensions of a linear layer.

    The scores multiply the output, bias included (SiDT, thesis section 4.3: q~ = q A), not the
    weight: so the gradient with respect to alpha costs one product and one sum, and no
    weight-gradient matrix product. Where alpha's gradient is not asked for, they multiply weight and
    bias if these are smaller. The ``out_features`` outputs are ``repeats`` groups of
    ``alpha.numel()`` dimensions, and alpha acts on every group: a fused qkv has
    ``repeats = 3 * heads``.

    Alpha is referred to, not registered: ``parameters()`` and ``state_dict()`` are those of the
    plain layer, so optimisers see the weights alone and pretrained checkpoints load as they are.
    Whoever owns alpha registers it once, and two networks may refer to the same one. A deep copy
    that contains both owner and layer keeps them tied; a deep copy of the layer alone has an
    alpha of its own. A move to a device or dtype takes alpha along, in place.

    Args:
        in_features, out_features, bias, device, dtype: As for :class:`torch.nn.Linear`.

    Build it with :meth:`wrap`.
    """

    repeats: int

    @classmethod
    def wrap(cls, linear: nn.Linear, alpha: Tensor, repeats: int = 1) -> "ScoredLinear":
        """A scored layer with the very Parameters of ``linear``.

        Args:
            linear: The layer to score, out_features = repeats * size.
            alpha: (size,) scores.
            repeats: Number of groups of outputs that share alpha.
        """
        scored_class = ScoredSlicedLinear if isinstance(linear, SlicedLinear) else cls
        # On the meta device nothing is allocated and no random number drawn.
        scored = scored_class(
            linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta"
        )
        scored.weight = linear.weight
        scored.bias = linear.bias
        if isinstance(linear, SlicedLinear):
            scored.outputs_cut = linear.outputs_cut
        scored.repeats = repeats
        scored.bind(alpha)
        scored.train(linear.training)
        return scored

    def bind(self, alpha: Tensor) -> None:
        """Refer to ``alpha``, (out_features / repeats,), from now on."""
        if alpha.shape != (self.out_features // self.repeats,):
            raise ValueError(
                f"alpha has shape {tuple(alpha.shape)}, but the layer needs "
                f"({self.out_features // self.repeats},): {self.out_features} outputs in "
                f"{self.repeats} groups that share their scores."
            )
        self.refer(alpha)

    def forward(self, input: Tensor, scored: bool = True) -> Tensor:
        """(..., in_features) -> (..., out_features); ``scored=False`` leaves the scores to the caller."""
        if not scored:
            return F.linear(input, self.weight, self.bias)
        if self.folds(input.numel() // self.in_features * self.out_features):
            scores = self.alpha.to(self.weight.dtype).repeat(self.repeats)
            bias = None if self.bias is None else self.bias * scores
            return F.linear(input, self.weight * scores[:, None], bias)
        output = F.linear(input, self.weight, self.bias)
        # Under autocast the output is of lower precision: alpha must not promote all that follows.
        scores = self.alpha.to(output.dtype)
        return output * (scores if self.repeats == 1 else scores.repeat(self.repeats))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scores={self.alpha.numel()}, repeats={self.repeats}"


class ScoredSlicedLinear(ScoredLinear, SlicedLinear, nn.Linear):
    """Scores on a layer that was sliced before: a pruned network that is searched again.

    ``nn.Linear`` stands among the bases by name because MMEngine's initialisers look at the names
    of a class and its direct bases.
    """
