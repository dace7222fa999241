"""Hosts with as many groups of channels as their settings make: necks and heads of detectors."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence

from torch import nn

from .channels import ChannelAdapter, Channels


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
