"""Random draws as functions of where they are made, not of what was drawn before."""

import random
from enum import IntEnum

import numpy as np
import torch


class Stream(IntEnum):
    """What is drawn: two streams share no seed, whatever their further keys are."""

    STEP = 0
    EPOCH_END = 1
    SAMPLE = 2
    ORDER = 3


def seed_process(stream: Stream, *key: int) -> None:
    """Seed Python's, NumPy's and torch's global generators, those of all devices included.

    Args:
        stream: what is going to be drawn.
        key: whole numbers >= 0: the run's seed, and where in the run.
    """
    words = _seed_host(stream, key)
    torch.manual_seed(_whole(words))


def seed_sample(stream: Stream, *key: int) -> None:
    """As :func:`seed_process`, without the accelerators: for what a data pipeline draws.

    A worker process must not touch an accelerator, not even to seed it.
    """
    words = _seed_host(stream, key)
    torch.default_generator.manual_seed(_whole(words))


def _seed_host(stream: Stream, key: tuple[int, ...]) -> np.ndarray:
    # A hash: neighbouring keys give independent streams, which neighbouring seeds need not.
    words = np.random.SeedSequence((int(stream), *key)).generate_state(8)
    random.seed(_whole(words[:2]))
    np.random.seed(words[2:6])
    return words[6:]


def _whole(words: np.ndarray) -> int:
    high, low = (int(word) for word in words)
    return high << 32 | low
