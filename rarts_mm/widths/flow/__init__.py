"""Groups of channels that can only go together, found by running a network once."""

from .atoms import Atoms, Place
from .finding import find_groups
from .groups import ChannelGroup, Frozen, Groups
from .tracing import FlowError

__all__ = ["Atoms", "ChannelGroup", "FlowError", "Frozen", "Groups", "Place", "find_groups"]
