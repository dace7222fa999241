"""Wall and processor time of things that take turns, so that what else the machine does meets all alike."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch


def time_in_turns(
    calls: Mapping[str, Callable[[], object]], repeats: int, warmup: int, device: str
) -> dict[str, dict[str, list[float]]]:
    """Seconds of every call in every round; odd rounds go through the calls backwards.

    Returns:
        ``wall`` and, on a CPU, ``processor`` (time that the process really computed, over all of its
        threads) -> name of the call -> a number per round.
    """
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    clocks = {"wall": time.perf_counter}
    if device == "cpu":
        clocks["processor"] = time.process_time
    seconds = {clock: {name: [] for name in calls} for clock in clocks}
    for round_ in range(warmup + repeats):
        for name in list(calls)[:: 1 if round_ % 2 else -1]:
            wait()
            start = {clock: read() for clock, read in clocks.items()}
            calls[name]()
            wait()
            for clock, read in clocks.items():
                if round_ >= warmup:
                    seconds[clock][name].append(read() - start[clock])
    return seconds


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    if len(values) == 1:
        return dict(lower=values[0], median=values[0], upper=values[0])
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return dict(lower=lower, median=median, upper=upper)
