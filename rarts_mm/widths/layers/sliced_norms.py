"""Norms over channels, of which some are gone.

A removed channel is zero in front of the norm, and counts: mean and variance are over the original number of
channels. So the channels are put back among zeros, normalised by the library's norm of all of them, and the
others left out behind it. Mean and variance of the fewer channels do as well, and faster, but torch has no
gradient of those that its norms return: they are for inference.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..classes import qualified_name
from .strict_loading import StrictWidths

# Qualified names of layer norms -> the dimension of their input that they normalise. By name, as a subclass
# may compute something else.
LAYER_NORMS = {
    "torch.nn.modules.normalization.LayerNorm": -1,
    "timm.layers.norm.LayerNorm": -1,
    "timm.layers.norm.LayerNormFp32": -1,
    "timm.layers.norm.LayerNorm2d": 1,
    "timm.models.metaformer.LayerNormNoBias": -1,
    "timm.models.metaformer.LayerNorm2dNoBias": 1,
    "timm.layers.norm.LayerNorm2dFp32": 1,
    "torchvision.models.convnext.LayerNorm2d": 1,
    "mmpretrain.models.utils.norm.LayerNorm2d": 1,
}
GROUP_NORMS = frozenset(
    {
        "torch.nn.modules.normalization.GroupNorm",
        "timm.layers.norm.GroupNorm",
        "timm.layers.norm.GroupNorm1",
        "timm.models.metaformer.GroupNorm1NoBias",
    }
)


class SlicedLayerNorm(StrictWidths, nn.LayerNorm):
    """A layer norm over the channels that are left of ``original``, the others being zero.

    Args:
        width: channels that are left.
        original: channels before.
        dim: the dimension of the input that they lie along.
        eps, affine, bias: as in torch's.

    Attributes:
        input_scale: (width,) what the input is multiplied with: scores in front of a norm are nothing that
            its weights could do. None where there were none.
    """

    def __init__(
        self,
        width: int,
        original: int,
        dim: int = -1,
        eps: float = 1e-5,
        affine: bool = True,
        bias: bool = True,
        device: str | torch.device | None = None,
    ) -> None:
        super().__init__(width, eps=eps, elementwise_affine=affine, bias=bias, device=device)
        self.original = original
        self.dim = dim
        self.register_buffer("input_scale", None)

    def forward(self, x: Tensor, data_format: str | None = None) -> Tensor:
        """Normalise; ``data_format`` as MMPretrain's LayerNorm2d has it."""
        dim = self.dim if data_format is None else (-1 if data_format == "channel_last" else 1)
        if dim == 1:
            return self._last(x.movedim(1, -1)).movedim(-1, 1)
        return self._last(x)

    def _last(self, x: Tensor) -> Tensor:
        if self.input_scale is not None:
            x = x * self.input_scale.to(x.dtype)
        width = self.normalized_shape[0]
        if _at_rest(x, self.weight):
            return self._from_statistics(x, width / self.original)
        # Back among zeros: the library's norm of all channels is faster, forth and back, than sums of ours.
        gone = (0, self.original - width)
        weight, bias = (None if p is None else F.pad(p, gone) for p in (self.weight, self.bias))
        y = F.layer_norm(F.pad(x, gone), (self.original,), weight, bias, self.eps)
        return y[..., :width]

    def _from_statistics(self, x: Tensor, share: float) -> Tensor:
        """The same from mean and variance of the channels that are left, in fewer passes over the memory.

        With zeros for the rest the mean is share * mean, and the variance share * (var + (1 - share) mean^2).
        """
        width = self.normalized_shape
        y, mean, rstd = torch.native_layer_norm(x, width, self.weight, None, self.eps)
        rest = 1 - share
        # (x - share mean) / std' = (x - mean) rstd * ratio + rest mean / std', with ratio = std / std'.
        ratio = (share + rest * rstd.square() * (self.eps + share * mean.square())).rsqrt()
        shift = rest * mean * rstd * ratio
        y = y.mul_(ratio).view(-1, *width)
        shift = shift.view(-1, 1)
        if self.bias is None:
            return y.addmm_(shift, self.weight[None]).view_as(x)
        ones = torch.ones_like(shift)
        return y.addmm_(torch.cat([shift, ones], 1), torch.stack([self.weight, self.bias])).view_as(
            x
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, original={self.original}, dim={self.dim}"


class SlicedGroupNorm(StrictWidths, nn.Module):
    """A group norm whose groups have lost channels, each its own number of them.

    Args:
        group_of: the group of each channel that is left, in ascending order.
        groups: number of groups.
        original: channels of a group before.
        eps, affine: as in torch's.
    """

    def __init__(
        self,
        group_of: Sequence[int],
        groups: int,
        original: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: str | torch.device | None = None,
    ) -> None:
        super().__init__()
        self.num_groups, self.original, self.eps, self.affine = groups, original, eps, affine
        self.num_channels = len(group_of)
        for name in ("weight", "bias"):
            value = torch.empty(self.num_channels, device=device) if affine else None
            self.register_parameter(name, None if value is None else nn.Parameter(value))
        # Where each channel stands among those of before; which ones of its group are gone does not matter.
        places, found = [], [0] * groups
        for group in group_of:
            places.append(group * original + found[group])
            found[group] += 1
        self.register_buffer("places", torch.tensor(places, device=device), persistent=False)
        self.register_buffer("input_scale", None)

    def forward(self, x: Tensor) -> Tensor:
        if self.input_scale is not None:
            x = x * self.input_scale.to(x.dtype).view(-1, *(1,) * (x.dim() - 2))
        if _at_rest(x, self.weight) and x.dim() > 2:
            return self._from_statistics(x)
        whole = self.num_groups * self.original
        shape = (x.shape[0], whole, *x.shape[2:])
        y = F.group_norm(
            x.new_zeros(shape).index_copy(1, self.places, x),
            self.num_groups,
            *(self._padded(parameter, whole) for parameter in (self.weight, self.bias)),
            self.eps,
        )
        return y.index_select(1, self.places)

    def _from_statistics(self, x: Tensor) -> Tensor:
        """The same from mean and variance of each channel, in fewer passes over the memory."""
        maps = x.flatten(2)
        y, mean, rstd = torch.native_layer_norm(maps, maps.shape[2:], None, None, self.eps)
        mean, rstd = mean.squeeze(-1), rstd.squeeze(-1)
        group_of = self.places // self.original
        count = torch.bincount(group_of, minlength=self.num_groups).to(mean)

        def over_groups(values: Tensor) -> Tensor:
            zeros = values.new_zeros(len(values), self.num_groups)
            return zeros.index_add_(1, group_of, values) / self.original

        means = over_groups(mean)
        offset = mean - means[:, group_of]
        # Channels that are zero are as far from their group's mean as that is from zero.
        var = over_groups(rstd.pow(-2) - self.eps + offset.square())
        var = var + (1 - count / self.original) * means.square()
        factor = (var + self.eps).rsqrt()[:, group_of] * self.weight
        shift = offset * factor
        shift = shift if self.bias is None else shift + self.bias
        # As one pass over each map, which a product and a sum that are broadcast are not.
        return F.batch_norm(
            y.view(1, -1, y.shape[-1]),
            torch.zeros_like(shift).flatten(),
            torch.ones_like(shift).flatten(),
            (factor / rstd).flatten(),
            shift.flatten(),
            eps=torch.finfo(x.dtype).tiny,
        ).view_as(x)

    def _padded(self, parameter: Tensor | None, whole: int) -> Tensor | None:
        if parameter is None:
            return None
        return parameter.new_zeros(whole).index_copy(0, self.places, parameter)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"original={self.original}"
        )


def _at_rest(x: Tensor, weight: Tensor | None) -> bool:
    """Whether nothing is differentiated, recorded or cast, so that any way to the same numbers will do."""
    if torch.is_grad_enabled() or torch.jit.is_tracing() or torch.compiler.is_compiling():
        return False
    same = weight is not None and x.dtype == weight.dtype
    return same and x.dtype in (torch.float32, torch.float64)


def norm_kind(module: nn.Module) -> str | None:
    """``'layer'`` or ``'group'`` for a norm over channels that can be cut, else None."""
    # With scores it is of a subclass.
    name = qualified_name(getattr(type(module), "plain", type(module)))
    if name in LAYER_NORMS or isinstance(module, SlicedLayerNorm):
        return "layer"
    if name in GROUP_NORMS or isinstance(module, SlicedGroupNorm):
        return "group"
    return None


def sliced_norm(norm: nn.Module, left: Tensor, size: int, scaled: bool = False) -> nn.Module:
    """The norm of the channels ``left`` of ``size``; its weight and bias are those of ``left`` already.

    Args:
        scaled: whether its input is multiplied by numbers of its own, ``input_scale``, (left,); ones at
            first.
    """
    device = norm.weight.device
    if norm_kind(norm) == "layer":
        again = isinstance(norm, SlicedLayerNorm)
        new = SlicedLayerNorm(
            len(left),
            norm.original if again else size,
            norm.dim if again else LAYER_NORMS[qualified_name(type(norm))],
            norm.eps,
            bias=norm.bias is not None,
            device=device,
        )
    else:
        again = isinstance(norm, SlicedGroupNorm)
        original = norm.original if again else size // norm.num_groups
        group_of = norm.places // original if again else torch.arange(size) // original
        new = SlicedGroupNorm(
            group_of[left].tolist(), norm.num_groups, original, norm.eps, device=device
        )
        new.to(norm.weight.dtype)
    new.weight, new.bias = norm.weight, norm.bias
    before = getattr(norm, "input_scale", None)
    if before is not None:
        new.input_scale = before if len(before) == len(left) else before[left]
    elif scaled:
        new.input_scale = torch.ones_like(norm.weight.detach())
    return new.train(norm.training)
