"""Groups of channels that can only go together, found by running a network once."""

from .atoms import Atoms, Place
from .groups import ChannelGroup, Frozen, Groups, find_groups
from .tracing import FlowError

__all__ = ["Atoms", "ChannelGroup", "FlowError", "Frozen", "Groups", "Place", "find_groups"]
