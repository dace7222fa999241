"""MMEngine's sockets: optim wrapper, loop over two halves, hooks, distributed wrapper."""

from .constructor import RARTSOptimWrapperConstructor, alpha_like
from .distributed import SearchDistributed
from .hooks import (
    CheckpointKindHook,
    LagrangianHook,
    MemoryHook,
    NonFiniteLossHook,
    PreciseStatisticsHook,
    ScoreHook,
    SplitHook,
    StartUpHook,
)
from .loop import SearchLoop
from .optim_wrapper import RARTSOptimWrapper

__all__ = [
    "CheckpointKindHook",
    "LagrangianHook",
    "MemoryHook",
    "NonFiniteLossHook",
    "RARTSOptimWrapper",
    "RARTSOptimWrapperConstructor",
    "PreciseStatisticsHook",
    "ScoreHook",
    "SearchDistributed",
    "SearchLoop",
    "SplitHook",
    "StartUpHook",
    "alpha_like",
]
