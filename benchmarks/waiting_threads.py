"""A training step on two threads, alone and beside one busy process, by how long waiting threads spin.

python benchmarks/waiting_threads.py
"""

import os
import statistics
import subprocess
import sys
import time

from rich.console import Console
from rich.table import Table

STEPS = 15
WAYS = {"OpenMP's default": None, "rarts_mm's": "100000"}


def step_time() -> float:
    """Median seconds of a step of twenty small convolutions."""
    import torch
    from torch import nn

    torch.set_num_threads(2)
    layers = [
        nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        for _ in range(20)
    ]
    network, images = nn.Sequential(*layers), torch.randn(4, 32, 48, 48)
    times = []
    for _ in range(STEPS):
        start = time.perf_counter()
        network(images).sum().backward()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measured(spins: str | None) -> float:
    """In a process of its own, as the number is read when torch is loaded."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    env |= {} if spins is None else {"GOMP_SPINCOUNT": spins}
    done = subprocess.run(
        [sys.executable, __file__, "--step"], env=env, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def main() -> None:
    table = Table("milliseconds a step", *WAYS)
    table.add_row("alone", *(f"{1e3 * measured(spins):.0f}" for spins in WAYS.values()))
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            table.add_row(
                "beside one busy process",
                *(f"{1e3 * measured(spins):.0f}" for spins in WAYS.values()),
            )
        finally:
            busy.kill()
    Console().print(table)


if __name__ == "__main__":
    if "--step" in sys.argv:
        print(step_time())
    else:
        main()
