"""Synchronised batch norms on CPUs, where torch has none."""

import functools

import torch
from mmengine.dist import is_distributed
from torch import Tensor, nn
from torch.distributed import group
from torch.distributed.nn.functional import all_reduce


def synchronise_on_cpu(network: nn.Module) -> nn.Module:
    """Let SyncBN layers run where torch's own refuse to: on CPUs. In place; returns the network.

    In training they normalise by the mean and the variance of all processes' images, as on a GPU,
    however many of them a process has. It is made of autograd's own operations, so that, other than on
    a GPU, it can be differentiated twice (exact second-order searches). What is on an accelerator is
    left to torch.
    """
    for module in network.modules():
        if isinstance(module, nn.SyncBatchNorm):
            # A partial, not a closure: networks are copied whole.
            module.forward = functools.partial(_forward, module)
            # For those who look whether a layer computes what its class does.
            module.forward.same_function = True
    return network


def _forward(norm: nn.SyncBatchNorm, x: Tensor) -> Tensor:
    if not (x.is_cpu and norm.training and is_distributed()):
        return type(norm).forward(norm, x)
    norm._check_input_dim(x)
    norm._check_non_zero_input_channels(x)
    low = x.dtype in (torch.float16, torch.bfloat16)
    values = x.float() if low else x
    mean, var, count = _statistics(values, norm.process_group or group.WORLD)
    if norm.track_running_stats:
        _follow(norm, mean.detach(), var.detach() * (count / (count - 1)))
    scale = (var + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    out = (values - _spread(mean, x)) * _spread(scale, x)
    if norm.bias is not None:
        out = out + _spread(norm.bias, x)
    return out.to(x.dtype)


def _statistics(x: Tensor, processes) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance, (channels,) each, and the number of values per channel, of all processes.

    Processes need not have the same number of values; one may have none.
    """
    others, channels = [0, *range(2, x.ndim)], x.shape[1]
    own = torch.cat([x.sum(others), x.new_tensor([x.numel() // channels])])
    total, count = all_reduce(own, group=processes).split([channels, 1])
    count = count.detach()
    if count.item() < 2:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size {tuple(x.shape)} "
            "and nothing in the other processes"
        )
    mean = total / count
    # About the mean, in a sum of its own: a difference of squares would lose digits.
    squares = (x - _spread(mean, x)).square().sum(others)
    return mean, all_reduce(squares, group=processes) / count, count


def _spread(values: Tensor, x: Tensor) -> Tensor:
    """(channels,) in the shape that meets ``x``, (N, channels, ...)."""
    return values.view(1, -1, *(1,) * (x.ndim - 2))


@torch.no_grad()
def _follow(norm: nn.SyncBatchNorm, mean: Tensor, var: Tensor) -> None:
    """Move the running statistics towards those of a batch."""
    norm.num_batches_tracked.add_(1)
    share = norm.momentum
    if share is None:
        share = 1.0 / norm.num_batches_tracked.item()
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), share)
    norm.running_var.lerp_(var.to(norm.running_var.dtype), share)
