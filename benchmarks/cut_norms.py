"""Norms over 60 % of their channels beside torch's over all of them, one thread, without gradients.

python benchmarks/cut_norms.py
"""

import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from rarts_mm.widths.layers.sliced_norms import sliced_norm

SHARE, REPEATS = 0.6, 21


def kept(size: int) -> Tensor:
    return torch.arange(round(SHARE * size))


def cut(norm: nn.Module, size: int) -> nn.Module:
    left = kept(size)
    norm.weight, norm.bias = (nn.Parameter(p[left].detach()) for p in (norm.weight, norm.bias))
    return sliced_norm(norm, left, size)


def times_in_turns(*functions: Callable[[], object]) -> list[float]:
    """Median milliseconds of each."""
    found: list[list[float]] = [[] for _ in functions]
    for _ in range(REPEATS):
        for function, times in zip(functions, found, strict=True):
            start = time.perf_counter()
            function()
            times.append(1e3 * (time.perf_counter() - start))
    return [statistics.median(times) for times in found]


def main() -> None:
    torch.set_num_threads(1)
    table = Table("norm", "input", "torch's, all channels", "torch's, those left", "cut", "ratio")
    with torch.inference_mode():
        for tokens, size in ((3136, 96), (784, 384), (197, 768)):
            x = torch.randn(2, tokens, size)
            _row(
                table,
                "LayerNorm",
                nn.LayerNorm(size),
                nn.LayerNorm(len(kept(size))),
                cut(nn.LayerNorm(size), size),
                x,
                x[..., kept(size)],
            )
        for size, side in ((256, 64), (256, 32)):
            x = torch.randn(2, size, side, side)
            norm = cut(nn.GroupNorm(32, size), size)
            left = nn.GroupNorm(1, len(kept(size)))
            _row(table, "GroupNorm", nn.GroupNorm(32, size), left, norm, x, x[:, kept(size)])
    Console().print(table)


def _row(
    table: Table,
    name: str,
    whole: nn.Module,
    left: nn.Module,
    part: nn.Module,
    x: Tensor,
    y: Tensor,
) -> None:
    y = y.contiguous()
    times = times_in_turns(lambda: whole(x), lambda: left(y), lambda: part(y))
    shape = " x ".join(map(str, x.shape))
    table.add_row(name, shape, *(f"{each:.2f} ms" for each in times), f"{times[2] / times[0]:.2f}")


if __name__ == "__main__":
    main()
