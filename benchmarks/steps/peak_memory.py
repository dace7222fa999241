"""The most memory that tensors take at a time during one step."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from steps.settings import Search

_CPU = 0  # "Device Type" in the profiler's events


@dataclass(frozen=True)
class PeakMemory:
    """Bytes of tensors.

    Attributes:
        standing: what stays from step to step: parameters, buffers and states of the optimisers.
        step: the peak of what a step allocates on top: activations, gradients, temporaries.
    """

    standing: int
    step: int

    @property
    def total(self) -> int:
        return self.standing + self.step


def peak_memory(search: Search) -> PeakMemory:
    """Measure a step of a search that has made at least one, so that optimiser states are there."""
    tensors = [*search.model.parameters(), *search.model.buffers()]
    for wrapper in search.optim_wrapper.values():
        for state in wrapper.optimizer.state.values():
            tensors += [value for value in state.values() if isinstance(value, torch.Tensor)]
    # Both networks may refer to the same tensor.
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    device = tensors[0].device
    peak = _peak_on_cuda(search, device) if device.type == "cuda" else _peak_on_cpu(search)
    return PeakMemory(sum(storages.values()), peak)


def _peak_on_cuda(step: Callable[[], object], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    step()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _peak_on_cpu(step: Callable[[], object]) -> int:
    """From the profiler's record of every allocation and release of torch's allocator."""
    activities = [ProfilerActivity.CPU]
    with profile(activities=activities, profile_memory=True, acc_events=True) as profiler:
        step()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    changes = sorted(
        (event["ts"], event["args"]["Bytes"])
        for event in events
        if event["name"] == "[memory]" and event["args"]["Device Type"] == _CPU
    )
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak
