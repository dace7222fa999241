"""Hooks, one idea each."""

from .checkpoint_files_hook import CheckpointFilesHook
from .checkpoint_kind_hook import CheckpointKindHook
from .lagrangian_hook import LagrangianHook
from .memory_hook import MemoryHook
from .non_finite_hook import NonFiniteLossError, NonFiniteLossHook
from .precise_statistics_hook import PreciseStatisticsHook
from .recompute_statistics_hook import RecomputeStatisticsHook
from .score_hook import ScoreHook
from .search_record_hook import SearchRecordHook
from .start_up_hook import StartUpHook
from .swin_release_hook import SwinReleaseHook

__all__ = [
    "CheckpointFilesHook",
    "CheckpointKindHook",
    "LagrangianHook",
    "MemoryHook",
    "NonFiniteLossError",
    "NonFiniteLossHook",
    "PreciseStatisticsHook",
    "RecomputeStatisticsHook",
    "ScoreHook",
    "SearchRecordHook",
    "StartUpHook",
    "SwinReleaseHook",
]
