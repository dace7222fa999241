"""Penalties gamma * P(alpha) on the architecture parameters, one file each."""

from .base import Penalty, SearchedNetwork
from .l0 import HardThreshold
from .l1 import L1Penalty, ProximalL1
from .latency import LatencyPenalty
from .proximal import ProximalPenalty
from .smooth import SmoothPenalty
from .zero_one import ZeroOnePenalty

__all__ = [
    "HardThreshold",
    "L1Penalty",
    "LatencyPenalty",
    "Penalty",
    "ProximalL1",
    "ProximalPenalty",
    "SearchedNetwork",
    "SmoothPenalty",
    "ZeroOnePenalty",
]
