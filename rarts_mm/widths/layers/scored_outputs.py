"""Layers whose outputs are multiplied by scores: channels as a convolution writes them."""

from functools import cache

from torch import Tensor, nn

from .shared_scores import SharedScores

_KINDS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


class ScoredOutputs(SharedScores):
    """``y = layer(x) * alpha``: scores on the output channels of a layer, bias included.

    The literal reading of the thesis' section 4.2. In front of a batch norm it is degenerate, see
    :class:`~rarts_mm.widths.PreNormSpace`. A layer gets scores by :func:`score_outputs` and loses them
    by :func:`fold_outputs`; it stays the same object with the same Parameters, and may have scores on
    its inputs besides.
    """

    output_alpha: Tensor

    def forward(self, x: Tensor, *args, **kwargs) -> Tensor:
        y = super().forward(x, *args, **kwargs)
        # Under autocast the output may be of lower precision: alpha must not promote all that follows.
        scores = self.output_alpha.to(y.dtype)
        return y * (scores if isinstance(self, nn.Linear) else scores[:, None, None])


def score_outputs(layer: nn.Module, alpha: Tensor) -> None:
    """Let a layer multiply its outputs by ``alpha``, (outputs,), in place."""
    layer.__class__ = _scored(type(layer))
    layer.refer(alpha, "output_alpha")


def fold_outputs(layer: ScoredOutputs) -> None:
    """Fold the scores into weight and bias, in place: the same function without them."""
    alpha = layer.__dict__.pop("output_alpha").detach()
    layer.__class__ = type(layer).__bases__[1]
    shape = [1] * layer.weight.ndim
    shape[1 if isinstance(layer, nn.ConvTranspose2d) else 0] = -1
    layer.weight.data.mul_(alpha.view(shape))
    if layer.bias is not None:
        layer.bias.data.mul_(alpha)


@cache
def _scored(cls: type) -> type:
    """``cls`` with scores on its outputs.

    torch's class stands among the bases by name, as MMEngine's initialisers look there.
    """
    plain = next(kind for kind in _KINDS if issubclass(cls, kind))
    bases = (ScoredOutputs, cls) if cls is plain else (ScoredOutputs, cls, plain)
    return type(f"OutputScored{cls.__name__}", bases, {"__module__": __name__})
