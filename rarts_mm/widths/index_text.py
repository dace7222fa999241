"""Indices as short texts that people read: ``'0-4,7'``."""

import re
from collections.abc import Sequence


def write_indices(indices: Sequence[int]) -> str:
    """``'0-4,7'`` for 0, 1, 2, 3, 4, 7."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs)


def read_indices(text: str) -> list[int]:
    """The inverse of :func:`write_indices`; empty for a text of another form."""
    if not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", text):
        return []
    bounds = [tuple(map(int, run.split("-"))) for run in text.split(",")]
    return [i for run in bounds for i in range(run[0], run[-1] + 1)]
