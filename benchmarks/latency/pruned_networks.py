"""Networks whose latency is measured: whole ones, and ones pruned by random scores."""

import copy
from collections.abc import Callable

import torch
from mmcv.cnn import fuse_conv_bn
from mmengine.hub import get_config
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rarts_mm.widths import insert_scores, slice_network
from rarts_mm.widths.budgets import WidthCost, keep_within

# The libraries' own configs for ImageNet.
CONFIGS = {
    "swin-t": "mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py",
    "resnet50": "mmpretrain::resnet/resnet50_8xb32_in1k.py",
    "mobilenet-v2": "mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py",
}
PLAIN = "plain"
# How a network may be run; all but the first are for networks of convolutions and batch norms.
WAYS = (PLAIN, "folded", "channels-last", "folded channels-last")


def build_network(name: str) -> nn.Module:
    """A classifier with random weights, in evaluation mode, that wants no gradients."""
    init_default_scope("mmpretrain")
    torch.manual_seed(0)
    network = MODELS.build(dict(get_config(CONFIGS[name]).model))
    network.init_weights()
    return network.eval().requires_grad_(False)


def prune(network: nn.Module, ratio: float, round_to: int, seed: int) -> tuple[nn.Module, dict]:
    """A copy that lacks a share of its scored dimensions, drawn at random from the whole network.

    Args:
        network: Is not changed.
        ratio: Share of the scores to remove; 0 replaces the layers by sliced ones of full width.
        round_to: Widths are multiples of this number (or whole), under the same budget of scores.
        seed: Draws the scores.

    Returns:
        The pruned network, and unit name -> its width.
    """
    pruned = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(seed)
    importance = {
        name: torch.rand(alpha.shape, generator=generator)
        for name, alpha in insert_scores(pruned).items()
    }
    cost = WidthCost.of_scores({name: len(numbers) for name, numbers in importance.items()})
    kept = keep_within(importance, cost, (1 - ratio) * cost.whole, round_to=round_to)
    pruned = slice_network(pruned, kept).eval().requires_grad_(False)
    return pruned, {name: len(indices) for name, indices in kept.items()}


def ways_of(network: nn.Module) -> tuple[str, ...]:
    """The ways of running that change something for this network."""
    folds = any(isinstance(module, _BatchNorm) for module in network.modules())
    return WAYS if folds else (PLAIN,)


def prepare(network: nn.Module, way: str, images: Tensor) -> Callable[[], Tensor]:
    """A call that classifies the images in one of :data:`WAYS`; the network itself is not changed.

    ``folded``: batch norms become part of the convolutions before them. ``channels-last``: the
    channels of a pixel lie side by side in memory.
    """
    if way != PLAIN:
        network = copy.deepcopy(network)
    if "folded" in way:
        network = fuse_conv_bn(network)
    if "channels-last" in way:
        network = network.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    return lambda: network(images, mode="tensor")
