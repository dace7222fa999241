"""The NATS-Bench topology space: its networks, its strings, its search space and the look-up."""

from . import places  # noqa: F401  (registers where the operations stand)
from .architecture import NATSArchitecture
from .lookup import LookUp, LookUpUnavailable
from .network import NATSNetwork, NATSSearchNetwork
from .operations import NATS_OPERATIONS, build_nats_operation
from .space import NATSSpace

__all__ = [
    "NATS_OPERATIONS",
    "LookUp",
    "LookUpUnavailable",
    "NATSArchitecture",
    "NATSNetwork",
    "NATSSearchNetwork",
    "NATSSpace",
    "build_nats_operation",
]
