"""Reading checkpoints: whole, finite, and as data that run nothing."""

from .downloads import CheckpointFetchError
from .errors import CheckpointFileError, UntrustedCheckpointError
from .reading import check_checkpoint, read_checkpoint, read_weights
from .trust import TRUST_VARIABLE, is_trusting, trusting

__all__ = [
    "TRUST_VARIABLE",
    "CheckpointFetchError",
    "CheckpointFileError",
    "UntrustedCheckpointError",
    "check_checkpoint",
    "is_trusting",
    "read_checkpoint",
    "read_weights",
    "trusting",
]
