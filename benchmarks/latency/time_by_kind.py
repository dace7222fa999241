"""Where the time of a call goes: torch's profiler, operators summed by kind."""

import re
from collections.abc import Callable, Mapping

import torch
from torch.profiler import ProfilerActivity, profile

# The first pattern that an operator's name matches says its kind.
KINDS = {
    "fused attention": r"scaled_dot_product",
    "normalisation": r"norm",
    "products": r"conv|addmm|\bmm\b|bmm|matmul|linear",
    "softmax": r"softmax",
    "pooling": r"pool",
    "activations, elementwise": (
        r"gelu|relu|hardtanh|clamp|sigmoid|silu|\b(add|sub|mul|div|pow|mean|sum|masked_fill|ne|eq)_?\b"
    ),
    "memory, layout": (
        r"copy|clone|contiguous|cat|roll|pad|index|select|im2col|unfold|empty|fill|zero|reshape|view"
        r"|permute|transpose|\bt\b|slice|expand|as_strided|resize|flatten|unbind|repeat|_to\b|\bto\b"
    ),
}
REST = "rest"


def kind_of(operator: str) -> str:
    """The kind of an operator such as ``aten::addmm``."""
    name = operator.removeprefix("aten::")
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, name)), REST)


def time_by_kind(
    calls: Mapping[str, Callable[[], object]], repeats: int
) -> dict[str, dict[str, float]]:
    """Milliseconds that a call spends in each kind of operator, calls taking turns.

    An operator's own time, without that of operators that it calls; of several threads, the time of
    the one that calls. A call goes through the same operators every time, and of each the least time
    counts: what other programs take is counted to the operator that they interrupt.

    Returns:
        Name of the call -> kind -> milliseconds.
    """
    least: dict[str, dict[str, list[float]]] = {}
    with torch.inference_mode():
        for call in calls.values():
            call()
        for _ in range(repeats):
            for name, call in calls.items():
                times = _own_times(call)
                known = least.setdefault(name, times)
                least[name] = {
                    operator: [min(pair) for pair in zip(known[operator], found, strict=True)]
                    for operator, found in times.items()
                }
    totals = {name: dict.fromkeys([*KINDS, REST], 0.0) for name in calls}
    for name, times in least.items():
        for operator, found in times.items():
            totals[name][kind_of(operator)] += sum(found)
    return totals


def _own_times(call: Callable[[], object]) -> dict[str, list[float]]:
    """Operator -> milliseconds of each time that it ran, in order."""
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        call()
    times: dict[str, list[float]] = {}
    for event in sorted(profiler.events(), key=lambda event: event.time_range.start):
        times.setdefault(event.name, []).append(event.self_cpu_time_total / 1000)
    return times
