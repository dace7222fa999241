"""Hosts with as many groups of channels as their settings make: necks and heads of detectors."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence

from torch import nn

from .channels import ChannelAdapter, Channels

Step = tuple[str, tuple[str, ...], tuple[str, ...]]
"""A layer, and the norms and activations behind it: paths in the host."""


def chain(steps: Sequence[Step], ends: tuple[str, ...] = ()) -> dict[str, Channels]:
    """A group of channels for each step, by the name of its layer, read by the step after it.

    Those of the last step are read by ``ends``; without these they leave the host, and are no group.
    """
    groups = {}
    for i, (layer, norms, acts) in enumerate(steps):
        readers = (steps[i + 1][0],) if i + 1 < len(steps) else ends
        if readers:
            groups[layer.removesuffix(".conv")] = Channels((layer,), readers, norms, acts)
    return groups


class ChainAdapter(ChannelAdapter):
    """Hosts whose layers follow one another, each writing channels that the next ones read.

    Registered once, it makes an adapter of itself for each group (:meth:`groups`).

    Args:
        part: the group's name; empty for the registered adapter itself.
    """

    def __init__(self, part: str = "") -> None:
        # An attribute of the class in adapters with one group.
        self.part = part

    @abstractmethod
    def groups(self, host: nn.Module) -> Mapping[str, Channels]:
        """The groups of channels by the name of the layer that writes them."""

    def split(self, host: nn.Module) -> Sequence["ChainAdapter"]:
        try:
            return [type(self)(part) for part in self.groups(host)]
        except LookupError:
            # The refusal says why.
            return [self]

    def channels(self, host: nn.Module) -> Channels:
        return self.groups(host)[self.part]
