"""All edges that leave a node, computed together: what they share is computed once.

The sum of an edge's operations, weighted by alpha, has a literal form, which
:meth:`~rarts_mm.cells.network.MixedOperation.forward` is. Here are the same numbers (to rounding) for
less:

- ``none`` is left out; its share is what the others lack.
- Edges that leave a node read the same input, so that its ReLU, its pools and the norms behind these
  (which have no weights) are the same on all of them. Their sums need no
  copies of the weighted terms.
- The weight of a normed operation is the weight of its norm: no product of its own, and no copy of the
  norm's output kept for alpha's gradient.
- A convolution with dilation 2 and stride 1 is one without dilation on each of the four grids of every
  other pixel; at stride 2 it reads one of the four only. Depthwise convolutions with dilation are much
  slower than without.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .operations import OPERATIONS, FactorizedReduction

_COLUMN = {name: i for i, name in enumerate(OPERATIONS)}
POOLS = ("max_pool_3x3", "avg_pool_3x3")
SEPARABLE = ("sep_conv_3x3", "sep_conv_5x5")
DILATED = ("dil_conv_3x3", "dil_conv_5x5")


def mix(x: Tensor, edges: Sequence[nn.Module], weights: Tensor, stride: int) -> list[Tensor]:
    """The weighted sums of the operations of edges that all read ``x`` at one stride.

    Args:
        x: (N, C, H, W).
        edges: mixed operations, each with ``operations`` in the order of alpha's columns.
        weights: (edges, operations).
        stride: of the edges, 1 or 2.

    Returns:
        For each edge (N, C, H / stride, W / stride), a tensor that may be changed in place.
    """
    if any(is_changed(module) for edge in edges for module in (edge, *edge.operations)):
        return [edge(x, row) for edge, row in zip(edges, weights, strict=True)]
    positive = F.relu(x)
    outs = _dilated(positive, edges, weights, stride)
    for out, edge, row in zip(outs, edges, weights, strict=True):
        for name in SEPARABLE:
            out += _separable(positive, edge.operations[_COLUMN[name]], row[_COLUMN[name]])
        if stride == 2:
            column = _COLUMN["skip_connect"]
            out += _reduction(positive, edge.operations[column], row[column])
    _add_shared(outs, x, edges, weights, stride)
    return outs


def is_changed(module: nn.Module) -> bool:
    """Whether somebody hangs on the module's own forward pass (checkpointing, hooks)."""
    return "forward" in vars(module) or bool(module._forward_hooks or module._forward_pre_hooks)


def weighted_norm(norm: nn.Module, x: Tensor, weight: Tensor) -> Tensor:
    """weight * norm(x) for a batch norm without weights, of which it is the weight meanwhile.

    Args:
        norm: any module; other kinds than torch's own batch norm without weights (a synchronised one)
            run as they are.
        x: (N, C, H, W).
        weight: a number.
    """
    if type(norm) is not nn.BatchNorm2d or norm.affine or is_changed(norm):
        return norm(x) * weight.to(x.dtype)
    mean, var, momentum = norm.running_mean, norm.running_var, norm.momentum
    if norm.training and norm.track_running_stats:
        momentum = _count(norm)
    batch = norm.training or mean is None
    scale, shift = norm_weights(weight, x)
    return F.batch_norm(x, mean, var, scale, shift, batch, momentum or 0.0, norm.eps)


def norm_weights(weight: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and zero shifts of a batch norm of ``x``, in the type that it has statistics in."""
    low = x.dtype in (torch.float16, torch.bfloat16)
    # Contiguous: torch's backward pass in channels-last layout reads an expanded number's neighbours.
    scale = weight.to(torch.float32 if low else x.dtype).expand(x.shape[1]).contiguous()
    return scale, torch.zeros_like(scale)


def _count(norm: nn.BatchNorm2d) -> float:
    """Count a batch; return the share that it has in the running statistics."""
    norm.num_batches_tracked.add_(1)
    return 1.0 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum


def _separable(positive: Tensor, operation: nn.Sequential, weight: Tensor) -> Tensor:
    _, depthwise, pointwise, norm, relu, depthwise_2, pointwise_2, norm_2 = operation
    # The norm's output is needed for nothing else: its backward pass reads its input.
    between = F.relu(norm(pointwise(depthwise(positive))), inplace=not is_changed(relu))
    return weighted_norm(norm_2, pointwise_2(depthwise_2(between)), weight)


def _dilated(
    positive: Tensor, edges: Sequence[nn.Module], weights: Tensor, stride: int
) -> list[Tensor]:
    """The dilated convolutions of all edges."""
    odd = any(side % 2 for side in positive.shape[-2:])
    grids = stride == 1 and not odd
    if stride == 2:
        read = _alike(positive[..., ::2, ::2], positive)
    else:
        # Grids of different sizes would have to be padded, and norms would count the padding.
        read = _split(positive) if grids else positive
    outs = []
    for edge, row in zip(edges, weights, strict=True):
        terms = []
        for name in DILATED:
            _, depthwise, pointwise, norm = edge.operations[_COLUMN[name]]
            if stride == 2 or grids:
                size = depthwise.kernel_size[0]
                inner = F.conv2d(read, depthwise.weight, padding=size // 2, groups=depthwise.groups)
            else:
                inner = depthwise(read)
            terms.append(weighted_norm(norm, pointwise(inner), row[_COLUMN[name]]))
        out = terms[0].add_(terms[1])
        outs.append(_join(out) if grids else out)
    return outs


def _split(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (4 N, C, H / 2, W / 2): the four grids of every other pixel."""
    n, c, h, w = x.shape
    grids = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4)
    return _alike(grids.reshape(4 * n, c, h // 2, w // 2), x)


def _join(x: Tensor) -> Tensor:
    """The inverse of :func:`_split`."""
    n, c, h, w = x.shape
    grids = x.view(n // 4, 2, 2, c, h, w).permute(0, 3, 4, 1, 5, 2)
    return _alike(grids.reshape(n // 4, c, 2 * h, 2 * w), x)


def _alike(x: Tensor, other: Tensor) -> Tensor:
    last = other.is_contiguous(memory_format=torch.channels_last)
    return x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def _reduction(positive: Tensor, operation: FactorizedReduction, weight: Tensor) -> Tensor:
    return weighted_norm(operation.norm, operation.halve(positive), weight)


def _add_shared(
    outs: Sequence[Tensor], x: Tensor, edges: Sequence[nn.Module], weights: Tensor, stride: int
) -> None:
    """Add the weighted pools and, at stride 1, the weighted input."""
    pools = [edges[0].operations[_COLUMN[name]][0] for name in POOLS]
    pooled = [pool(x) for pool in pools]
    norms = [[edge.operations[_COLUMN[name]][1] for edge in edges] for name in POOLS]
    columns = [_COLUMN[name] for name in POOLS]
    if all(_alike_in_training(group) for group in norms):
        terms = [_shared_norm(y, group) for y, group in zip(pooled, norms, strict=True)]
    else:
        # Running statistics may differ between edges.
        for i, out in enumerate(outs):
            for y, group, column in zip(pooled, norms, columns, strict=True):
                out += weighted_norm(group[i], y, weights[i, column])
        terms, columns = [], []
    if stride == 1:
        terms.append(x)
        columns.append(_COLUMN["skip_connect"])
    if terms:
        for out, shared in zip(outs, weighted_sums(terms, weights[:, columns]), strict=True):
            out += shared


def weighted_sums(terms: Sequence[Tensor], weights: Tensor) -> tuple[Tensor, ...]:
    """Several sums of the same terms, each with weights of its own.

    Args:
        terms: m tensors (N, C, H, W).
        weights: (n, m).

    Returns:
        n tensors (N, C, H, W).
    """
    return _WeightedSums.apply(weights, *terms)


class _WeightedSums(torch.autograd.Function):
    """Autograd would keep, and write, every product of a weight and a term."""

    @staticmethod
    def forward(ctx, weights: Tensor, *terms: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(weights, *terms)
        return tuple(_sum(terms, row) for row in weights)

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor, ...]:
        # Differentiable in turn, for second-order searches.
        weights, *terms = ctx.saved_tensors
        products = [torch.stack([_inner(g, term) for term in terms]) for g in gradients]
        columns = [_sum(gradients, column) for column in weights.t()]
        return torch.stack(products).to(weights.dtype), *columns


def _sum(terms: Sequence[Tensor], weights: Tensor) -> Tensor:
    weights = weights.to(terms[0].dtype)
    out = terms[0] * weights[0]
    for term, weight in zip(terms[1:], weights[1:], strict=True):
        out = out.addcmul_(term, weight)
    return out


def _inner(x: Tensor, y: Tensor) -> Tensor:
    if x.dtype in (torch.float16, torch.bfloat16):
        return (x * y).sum(dtype=torch.float32)
    if y.is_contiguous(memory_format=torch.channels_last):
        x, y = x.permute(0, 2, 3, 1), y.permute(0, 2, 3, 1)
    return torch.dot(x.reshape(-1), y.reshape(-1))


def _alike_in_training(norms: Sequence[nn.Module]) -> bool:
    """Whether these norms give the same output, that of the batch, for the same input."""
    first = norms[0]
    return all(
        type(n) is nn.BatchNorm2d
        and not n.affine
        and n.training
        and n.track_running_stats
        and (n.eps, n.momentum) == (first.eps, first.momentum)
        and not is_changed(n)
        for n in norms
    )


def _shared_norm(x: Tensor, norms: Sequence[nn.BatchNorm2d]) -> Tensor:
    """What each of these norms returns; each counts the batch in its own running statistics."""
    first = norms[0]
    # At momentum 1 they become the batch's own.
    mean, var = torch.zeros_like(first.running_mean), torch.ones_like(first.running_var)
    out = F.batch_norm(x, mean, var, training=True, momentum=1.0, eps=first.eps)
    shares = [_count(norm) for norm in norms]
    with torch.no_grad():
        for norm, share in zip(norms, shares, strict=True):
            norm.running_mean.lerp_(mean, share)
            norm.running_var.lerp_(var, share)
    return out
