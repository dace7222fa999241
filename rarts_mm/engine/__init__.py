"""MMEngine's sockets: optim wrapper, loop over two halves, hooks, distributed wrapper."""

from .distributed import SearchDistributed
from .hooks import (
    CheckpointKindHook,
    LagrangianHook,
    MemoryHook,
    NonFiniteLossHook,
    ScoreHook,
    SplitHook,
)
from .loop import SearchLoop
from .optim_wrapper import RARTSOptimWrapper, RARTSOptimWrapperConstructor, alpha_like

__all__ = [
    "CheckpointKindHook",
    "LagrangianHook",
    "MemoryHook",
    "NonFiniteLossHook",
    "RARTSOptimWrapper",
    "RARTSOptimWrapperConstructor",
    "ScoreHook",
    "SearchDistributed",
    "SearchLoop",
    "SplitHook",
    "alpha_like",
]
