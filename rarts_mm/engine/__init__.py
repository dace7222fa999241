"""MMEngine's sockets: optim wrapper, loop over two halves, hooks, distributed wrapper."""

from rarts_mm.stack import check_stack

# With a broken stack what follows would fail with less helpful words.
check_stack()

from .checkpoints import (
    CheckpointError,
    checkpoint_to_resume,
    has_saved,
    last_saved,
    resume_from_whole_file,
)
from .constructor import RARTSOptimWrapperConstructor
from .distributed import CPUDistributed, SearchDistributed
from .epoch_loop import ResumableEpochLoop, use_resumable_loop
from .hooks import (
    CheckpointFilesHook,
    CheckpointFitHook,
    CheckpointKindHook,
    CommonStatisticsHook,
    DataHook,
    DropPathScheduleHook,
    GenotypeHook,
    LagrangianHook,
    MemoryHook,
    NATSLookUpHook,
    NonFiniteLossHook,
    PreciseStatisticsHook,
    PreemptionHook,
    ProgressHook,
    RecomputeStatisticsHook,
    RelaxationHook,
    ScoreHook,
    SearchHook,
    SearchRecordHook,
    StartUpHook,
)
from .loop import SearchLoop
from .member_configs import alpha_like
from .optim_wrapper import RARTSOptimWrapper
from .unwrapping import unwrapped

__all__ = [
    "CPUDistributed",
    "CheckpointError",
    "CheckpointFilesHook",
    "CheckpointFitHook",
    "CheckpointKindHook",
    "CommonStatisticsHook",
    "DataHook",
    "DropPathScheduleHook",
    "GenotypeHook",
    "LagrangianHook",
    "MemoryHook",
    "NATSLookUpHook",
    "NonFiniteLossHook",
    "PreciseStatisticsHook",
    "PreemptionHook",
    "ProgressHook",
    "RARTSOptimWrapper",
    "RARTSOptimWrapperConstructor",
    "RecomputeStatisticsHook",
    "RelaxationHook",
    "ResumableEpochLoop",
    "ScoreHook",
    "SearchDistributed",
    "SearchHook",
    "SearchLoop",
    "SearchRecordHook",
    "StartUpHook",
    "alpha_like",
    "checkpoint_to_resume",
    "has_saved",
    "last_saved",
    "resume_from_whole_file",
    "unwrapped",
    "use_resumable_loop",
]
