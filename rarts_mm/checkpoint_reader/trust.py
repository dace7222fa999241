"""Whether checkpoints may run what their pickles ask for; the user alone says so."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

# In the environment, so that the decision holds in every process that a command starts.
TRUST_VARIABLE = "RARTS_MM_TRUST_CHECKPOINT"


def is_trusting() -> bool:
    """Whether checkpoints are read that hold more than data."""
    return os.environ.get(TRUST_VARIABLE) == "1"


@contextmanager
def trusting(trusted: bool = True) -> Iterator[None]:
    """Read every checkpoint in the block, and in the processes started there, as a program.

    Args:
        trusted: without it the block changes nothing.
    """
    if not trusted:
        yield
        return
    before = os.environ.get(TRUST_VARIABLE)
    os.environ[TRUST_VARIABLE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[TRUST_VARIABLE]
        else:
            os.environ[TRUST_VARIABLE] = before
