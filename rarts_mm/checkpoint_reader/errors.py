"""Why a checkpoint is not read."""

import lzma
import pickle
import struct
import zipfile
import zlib


class CheckpointFileError(ValueError):
    """A checkpoint that is missing, out of reach or damaged, or a file that is none.

    Attributes:
        reason: what is wrong with it, without its name and the remedy.
    """

    def __init__(self, message: str, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason or message


class UntrustedCheckpointError(CheckpointFileError):
    """A whole checkpoint that holds more than data, which only the user can decide to read."""


# Damage makes the zip directory or the pickle say anything, and reading that raises almost anything:
# the list is Python's own ("AttributeError, EOFError, ImportError, IndexError" and others may come of
# unpickling), with what zipfile, its decompressors and torch's reader were seen to add.
UNREADABLE = (
    pickle.PickleError,
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
