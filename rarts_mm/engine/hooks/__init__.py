"""Hooks, one idea each."""

from .checkpoint_kind_hook import CheckpointKindHook
from .lagrangian_hook import LagrangianHook
from .memory_hook import MemoryHook
from .non_finite_hook import NonFiniteLossError, NonFiniteLossHook
from .precise_statistics_hook import PreciseStatisticsHook
from .score_hook import ScoreHook
from .split_hook import SplitHook
from .start_up_hook import StartUpHook
from .swin_release_hook import SwinReleaseHook

__all__ = [
    "CheckpointKindHook",
    "LagrangianHook",
    "MemoryHook",
    "NonFiniteLossError",
    "NonFiniteLossHook",
    "PreciseStatisticsHook",
    "ScoreHook",
    "SplitHook",
    "StartUpHook",
    "SwinReleaseHook",
]
