"""Running parts of networks on random inputs, as proofs do."""

import copy
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from .exactly import in_float64

# Image heights and widths, two that are tried together, larger ones when a network refuses smaller
# ones. Neither 4 x 4 patches nor the maps of four stages divide into windows of 7: only where
# MMDetection pads windows do padded tokens carry the pure qkv bias, and a bias that was not folded
# shows.
IMAGE_SIZES = (
    ((97, 131), (122, 89)),
    ((229, 261), (242, 233)),
    ((453, 517), (485, 461)),
)
BATCH = 2

Forward = Callable[[nn.Module, Any], Any]


class ProofError(RuntimeError):
    """A sliced network computes something else than the masked one, or cannot be compared."""


def call(network: nn.Module, item: Any) -> Any:
    return network(item)


def call_with_several(network: nn.Module, arguments: tuple) -> Any:
    return network(*arguments)


def moved(item: Any, device: torch.device) -> Any:
    """An input on another device: tensors in lists, tuples and dicts."""
    return tree_map(lambda one: one.to(device) if isinstance(one, Tensor) else one, item)


# What code raises whose arguments do not fit.
MISFITS = (
    RuntimeError,
    ValueError,
    TypeError,
    IndexError,
    AssertionError,
    KeyError,
    AttributeError,
)


def show_training_branches(network: nn.Module) -> None:
    """Let a network run the branches that it has for training, in place, while its layers stay at rest.

    Modules that hold others are in training mode, which code asks for its branches; layers are in
    evaluation mode: norms keep their statistics, dropout lets all through. So is what holds layers and
    drops at a rate of its own, as ``nn.MultiheadAttention`` does.
    """
    for module in network.modules():
        holds = next(module.children(), None) is not None
        module.training = holds and not isinstance(getattr(module, "dropout", None), float)


def copied_around(network: nn.Module) -> nn.Module:
    """A copy with buffers of its own that shares its parameters with ``network``.

    For code that replaces parameters and runs networks, neither of which writes into them.
    """
    return copy.deepcopy(network, {id(each): each for each in network.parameters()})


def evaluation_copy(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    # MMDetection's Swin returns None from train() and eval(): no chaining.
    network = copy.deepcopy(network)
    network.to(dtype)
    network.eval()
    return network


def run(network: nn.Module, item: Any, dtype: torch.dtype, forward: Forward | None) -> list:
    exactly = in_float64() if dtype is torch.float64 else nullcontext()
    with torch.no_grad(), exactly:
        return tensors_in((forward or call)(network, converted(item, dtype)))


def random_images(
    network: nn.Module, sizes: Sequence[tuple[int, int]] | None, forward: Forward
) -> list[Tensor]:
    """Random images that the network accepts, (BATCH, channels, height, width) each.

    Raises:
        ProofError: It runs on none of the sizes, or not on images alone.
    """
    convolution = next((m for m in network.modules() if isinstance(m, nn.Conv2d)), None)
    channels = 3 if convolution is None else convolution.in_channels
    parameter = next(network.parameters())
    generator = torch.Generator().manual_seed(0)
    network = evaluation_copy(network, torch.float32)
    failure = None
    groups = (tuple(sizes),) if sizes else (*IMAGE_SIZES, *_declared_sizes(network))
    for candidates in groups:
        images = [
            torch.randn(BATCH, channels, *size, generator=generator).to(parameter.device)
            for size in candidates
        ]
        try:
            for image in images:
                run(network, image, torch.float32, forward)
        # What hosts raise when an image is too small for a window or of another size than theirs.
        except (AssertionError, RuntimeError, ValueError) as error:
            failure = error
        # What they raise when they need more than images.
        except (AttributeError, LookupError, TypeError) as error:
            raise ProofError(
                f"The {type(network).__name__} cannot be run on a batch of images alone ({error}): "
                "give forward(network, images)."
            ) from error
        else:
            return images
    raise ProofError(
        f"The {type(network).__name__} accepts none of the image sizes "
        f"{[size for group in groups for size in group]} "
        f"({failure}): give sizes that it accepts."
    ) from failure


def _declared_sizes(network: nn.Module) -> list[tuple[tuple[int, int], ...]]:
    """The sizes that parts of a network, such as a patch embedding, say they take."""
    found = []
    for module in network.modules():
        size = getattr(module, "img_size", None)
        size = (size, size) if isinstance(size, int) else size
        if isinstance(size, list | tuple) and len(size) == 2:
            group = (tuple(int(side) for side in size),)
            if group not in found:
                found.append(group)
    return found


def tensors_in(outputs: Any) -> list[Tensor]:
    """All floating point tensors in nested tuples, lists and dicts, in order."""
    if isinstance(outputs, Tensor):
        return [outputs] if outputs.is_floating_point() else []
    if isinstance(outputs, dict):
        outputs = outputs.values()
    elif not isinstance(outputs, list | tuple):
        return []
    return [tensor for output in outputs for tensor in tensors_in(output)]


def converted(item: Any, dtype: torch.dtype) -> Any:
    if isinstance(item, Tensor):
        return item.to(dtype) if item.is_floating_point() else item
    if isinstance(item, dict):
        return {key: converted(value, dtype) for key, value in item.items()}
    if isinstance(item, tuple) and hasattr(item, "_fields"):
        return type(item)(*(converted(value, dtype) for value in item))
    if isinstance(item, list | tuple):
        return type(item)(converted(value, dtype) for value in item)
    return item


def relative_difference(wanted: Tensor, found: Tensor) -> float:
    """max |difference| / max |wanted|; infinite where one is no number."""
    difference = (wanted - found).abs().max().item()
    scale = wanted.abs().max().item()
    if not math.isfinite(difference) or not math.isfinite(scale):
        return math.inf
    if scale == 0:
        return 0.0 if difference == 0 else math.inf
    return difference / scale
