"""Hooks, one idea each."""

from .checkpoint_files_hook import CheckpointFilesHook
from .checkpoint_fit_hook import CheckpointFitHook
from .checkpoint_kind_hook import CheckpointKindHook
from .common_statistics_hook import CommonStatisticsHook
from .data_hook import DataHook
from .drop_path_schedule_hook import DropPathScheduleHook
from .expected_latency_hook import ExpectedLatencyHook
from .genotype_hook import GenotypeHook
from .lagrangian_hook import LagrangianHook
from .memory_hook import MemoryHook
from .nats_look_up_hook import NATSLookUpHook
from .non_finite_hook import NonFiniteLossError, NonFiniteLossHook
from .precise_statistics_hook import PreciseStatisticsHook
from .preemption_hook import PreemptionHook
from .progress_hook import ProgressHook
from .recompute_statistics_hook import RecomputeStatisticsHook
from .relaxation_hook import RelaxationHook
from .score_hook import ScoreHook
from .search_hook import SearchHook
from .search_record_hook import SearchRecordHook
from .start_up_hook import StartUpHook
from .swin_release_hook import SwinReleaseHook

__all__ = [
    "CheckpointFilesHook",
    "CheckpointFitHook",
    "CheckpointKindHook",
    "CommonStatisticsHook",
    "DataHook",
    "DropPathScheduleHook",
    "ExpectedLatencyHook",
    "GenotypeHook",
    "LagrangianHook",
    "MemoryHook",
    "NATSLookUpHook",
    "NonFiniteLossError",
    "NonFiniteLossHook",
    "PreciseStatisticsHook",
    "PreemptionHook",
    "ProgressHook",
    "RecomputeStatisticsHook",
    "RelaxationHook",
    "ScoreHook",
    "SearchHook",
    "SearchRecordHook",
    "StartUpHook",
    "SwinReleaseHook",
]
