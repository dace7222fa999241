"""Scores on the channels that a layer of any class reads, or writes."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from ..classes import qualified_name
from .sliced_norms import LAYER_NORMS, SlicedLayerNorm, norm_kind

INPUTS, OUTPUTS = "inputs", "outputs"
# The group of scores that stand on all inputs of one layer.
_ALL = ""
# By name, as others compute their weight from something else: only of these can it be multiplied.
_PLAIN = frozenset(
    {
        "torch.nn.modules.conv.Conv1d",
        "torch.nn.modules.conv.Conv2d",
        "torch.nn.modules.conv.Conv3d",
        "torch.nn.modules.conv.ConvTranspose2d",
        "torch.nn.modules.linear.Linear",
        "mmcv.cnn.bricks.wrappers.Conv2d",
        "mmcv.cnn.bricks.wrappers.Conv3d",
        "mmcv.cnn.bricks.wrappers.ConvTranspose2d",
        "mmcv.cnn.bricks.wrappers.Linear",
        "rarts_mm.widths.layers.sliced_layers.SlicedConv2d",
        "rarts_mm.widths.layers.sliced_layers.SlicedConvTranspose2d",
        "rarts_mm.widths.layers.sliced_linear.SlicedLinear",
    }
)


class Scored(NamedTuple):
    """Where the scores of one group stand along a layer's inputs or outputs.

    Attributes:
        group: name of the group.
        alpha: (size,) scores.
        where: (size, n) indices: those of channel i are in row i.
    """

    group: str
    alpha: Tensor
    where: Tensor


class ScoredChannels(nn.Module):
    """``y = layer(x * a) * b``: scores on what a layer reads, on what it writes, or on both.

    Whatever the class of the layer is: it becomes a subclass of it by :func:`score_channels`, which leaves
    the object, its Parameters and their names. A channel that no group has is multiplied by one, and so is
    a norm's input before it is normalised.

    Alpha is referred to, not registered, as in :class:`~rarts_mm.widths.ScoredLinear`. Where its gradient is
    not asked for, the scores multiply the weight if that is smaller than what passes.
    """

    def forward(self, x: Tensor, *args, **kwargs):
        channel = _channel_dim(self, x, args, kwargs)
        factors = {side: self.factor(side, x) for side in (INPUTS, OUTPUTS)}
        if not args and not kwargs and self.folds_scores(x.numel()):
            with _Replaced(self, factors[INPUTS], factors[OUTPUTS]):
                return super().forward(x)
        if factors[INPUTS] is not None:
            x = x * _along(factors[INPUTS], channel, x.dim())
        y = super().forward(x, *args, **kwargs)
        if factors[OUTPUTS] is not None:
            y = y * _along(factors[OUTPUTS].to(y.dtype), channel, y.dim())
        return y

    def scored(self, side: str) -> list[Scored]:
        """The scores on its inputs, or its outputs, by group."""
        return self.__dict__["_scored"][side]

    def carry(self, side: str, scored: Iterable[Scored]) -> None:
        """Have these scores from now on."""
        # Past nn.Module.__setattr__, which would register them.
        scored = list(scored)
        self.__dict__["_scored"][side] = scored
        self.__dict__["_index"][side] = _index(scored, width(self, side)) if scored else None

    def rebind(self, group: str, alpha: Tensor) -> None:
        """Refer to another vector of scores for a group."""
        for side in (INPUTS, OUTPUTS):
            found = self.__dict__["_scored"][side]
            self.__dict__["_scored"][side] = [
                each._replace(alpha=alpha) if each.group == group else each for each in found
            ]

    def factor(self, side: str, like: Tensor) -> Tensor | None:
        """(width,) what each channel on a side is multiplied with; None where there are no scores."""
        scored = self.__dict__["_scored"][side]
        if not scored:
            return None
        index = self.__dict__["_index"][side]
        # Under autocast the input may be of lower precision: alpha must not promote all that follows.
        alphas = [each.alpha.to(like.dtype) for each in scored]
        if index is None:
            return alphas[0]
        return torch.cat([*alphas, alphas[0].new_ones(1)])[index]

    def folds_scores(self, elements: int) -> bool:
        """Whether the scores multiply the weight instead of what passes through the layer; see
        :meth:`~rarts_mm.widths.layers.shared_scores.SharedScores.folds`."""
        alphas = [each.alpha for side in (INPUTS, OUTPUTS) for each in self.scored(side)]
        wanted = torch.is_grad_enabled() and any(alpha.requires_grad for alpha in alphas)
        plain = self.__dict__["_foldable"]
        return plain and not wanted and self.weight.numel() < elements

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        with torch.no_grad():
            for side in (INPUTS, OUTPUTS):
                for each in self.scored(side):
                    # The same object, as nn.Module does it for its own: an owner's reference stays true.
                    each.alpha.data = fn(each.alpha.data)
                    if each.alpha.grad is not None:
                        each.alpha.grad.data = fn(each.alpha.grad.data)
                index = self.__dict__["_index"][side]
                if index is not None:
                    self.__dict__["_index"][side] = fn(index)
        return self


class _Replaced:
    """Within the context a layer computes with weight and bias multiplied by factors."""

    def __init__(self, layer: nn.Module, inputs: Tensor | None, outputs: Tensor | None) -> None:
        self.layer = layer
        weight, bias = layer.weight, layer.bias
        first = int(is_transposed(layer))
        if inputs is not None:
            weight = weight * _along(inputs, 1 - first, weight.dim())
        if outputs is not None:
            weight = weight * _along(outputs, first, weight.dim())
            bias = None if bias is None else bias * outputs
        self.weight, self.bias = weight, bias

    def __enter__(self) -> None:
        # What an object's own dictionary has goes before registered parameters.
        self.layer.__dict__.update(weight=self.weight, bias=self.bias)

    def __exit__(self, *_: object) -> None:
        del self.layer.__dict__["weight"], self.layer.__dict__["bias"]


def score_channels(layer: nn.Module) -> None:
    """Let a layer carry scores, in place; it has none yet."""
    if isinstance(layer, ScoredChannels):
        return
    kind = type(layer)
    foldable = qualified_name(kind) in _PLAIN and getattr(layer, "groups", 1) == 1
    layer.__class__ = _scored_class(kind)
    layer.__dict__.update(
        _scored={INPUTS: [], OUTPUTS: []}, _index={INPUTS: None, OUTPUTS: None}, _foldable=foldable
    )


def score_inputs(layer: nn.Module, alpha: Tensor) -> None:
    """Let a layer multiply all of its inputs by ``alpha``, (channels,), in place (thesis, section 4.2).

    A linear layer behind a flattened map has several inputs per channel, one after the other.

    Behind batch norm and activation, where a channel enters the next layer, a score of zero removes it
    exactly; in front of a batch norm the normalisation would undo the score.
    """
    inputs = width(layer, INPUTS)
    if alpha.ndim != 1 or inputs % alpha.numel():
        raise ValueError(
            f"alpha has shape {tuple(alpha.shape)}, which does not fit the layer's {inputs} inputs."
        )
    score_channels(layer)
    where = torch.arange(inputs).view(alpha.numel(), -1)
    layer.carry(INPUTS, [Scored(_ALL, alpha, where)])


def input_scores(layer: nn.Module) -> Tensor | None:
    """What :func:`score_inputs` has given a layer; None without."""
    scored = layer.scored(INPUTS) if isinstance(layer, ScoredChannels) else ()
    return next((each.alpha for each in scored if each.group == _ALL), None)


def plain_channels(layer: ScoredChannels) -> None:
    """The inverse of :func:`score_channels`; the scores are gone."""
    layer.__class__ = type(layer).plain
    for name in ("_scored", "_index", "_foldable"):
        del layer.__dict__[name]


def width(layer: nn.Module, side: str) -> int:
    """Channels that a layer reads or writes."""
    if isinstance(layer, nn.Linear):
        return layer.in_features if side == INPUTS else layer.out_features
    if isinstance(layer, _ConvNd):
        return layer.in_channels if side == INPUTS else layer.out_channels
    return len(layer.weight)


def can_be_scored(layer: nn.Module) -> bool:
    """Whether it is known along which dimension a layer has its channels."""
    return isinstance(layer, nn.Linear | _ConvNd) or norm_kind(layer) is not None


_CLASSES: dict[type, type] = {}


def _scored_class(kind: type) -> type:
    """A subclass with scores; of the same name, as MMEngine's initialisers look at that."""
    if kind not in _CLASSES:
        bases = (ScoredChannels, kind, *(base for base in kind.__bases__ if base is not object))
        _CLASSES[kind] = type(kind.__name__, bases, {"plain": kind, "__doc__": kind.__doc__})
    return _CLASSES[kind]


def _channel_dim(layer: nn.Module, x: Tensor, args: tuple, kwargs: dict) -> int:
    """The dimension along which the layer's input has its channels."""
    if isinstance(layer, nn.Linear):
        return -1
    if isinstance(layer, _ConvNd):
        return -len(layer.kernel_size) - 1
    plain = layer.plain
    if not issubclass(plain, nn.LayerNorm):
        return 1
    data_format = args[0] if args else kwargs.get("data_format")
    if data_format is not None:
        return -1 if data_format == "channel_last" else 1
    return layer.dim if issubclass(plain, SlicedLayerNorm) else LAYER_NORMS[qualified_name(plain)]


def _along(factor: Tensor, dim: int, dims: int) -> Tensor:
    """A vector in a shape that multiplies along one dimension of a tensor."""
    shape = [1] * dims
    shape[dim] = -1
    return factor.view(shape)


def _index(scored: list[Scored], size: int) -> Tensor | None:
    """(size,) places in the scores of all groups, one after the other, and then a one.

    None if it were 0, 1, 2, and so on.
    """
    total = sum(each.alpha.numel() for each in scored)
    index = torch.full((size,), total)
    start = 0
    for each in scored:
        rows = torch.arange(start, start + each.alpha.numel())
        index[each.where] = rows[:, None].expand_as(each.where)
        start += each.alpha.numel()
    if len(scored) == 1 and torch.equal(index, torch.arange(size)):
        return None
    return index.to(scored[0].alpha.device)


def is_transposed(layer: nn.Module) -> bool:
    return isinstance(layer, _ConvTransposeNd)
