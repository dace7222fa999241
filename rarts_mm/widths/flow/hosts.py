"""Layers whose own code cannot run at other widths, and what takes their place.

A few widely used ones compute the width of their heads from that of the stream around them. The layer that
takes their place has the same parameters under the same names, computes the same, and takes any width.
"""

from collections.abc import Callable, Iterable
from importlib import import_module

from torch import nn

from ..classes import qualified_name

_SWIN = "rarts_mm.widths.layers.sliced_attention:free_window_attention"
_MULTIHEAD = "rarts_mm.widths.layers.sliced_multihead:free_multihead"
# Class -> the function that makes what takes its place of one, or None where it cannot. By name, and imported when such a layer is met: here nothing but torch is needed.
HOSTS = {
    "mmdet.models.backbones.swin.WindowMSA": _SWIN,
    "mmpretrain.models.utils.attention.WindowMSA": _SWIN,
    "torch.nn.modules.activation.MultiheadAttention": _MULTIHEAD,
}


def free_hosts(network: nn.Module, cut: Iterable[str] | None = None) -> nn.Module:
    """Replace such layers in a network, in place.

    Args:
        cut: names of parameters; layers without any of these stay what they are. None: all are replaced.

    Returns:
        ``network``, or what takes its place if it is such a layer itself.
    """
    names = None if cut is None else tuple(cut)
    new: dict[int, nn.Module] = {}
    for path, module in network.named_modules():
        place = HOSTS.get(qualified_name(type(module)))
        prefix = f"{path}." if path else ""
        if place and (names is None or any(name.startswith(prefix) for name in names)):
            free = _named(place)(module)
            if free is not None:
                new[id(module)] = free
    for module in list(network.modules()):
        for key, child in module._modules.items():
            if id(child) in new:
                module._modules[key] = new[id(child)]
    return new.get(id(network), network)


def _named(place: str) -> Callable[[nn.Module], nn.Module | None]:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
