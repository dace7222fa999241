"""What every operation of a search network costs, in milliseconds, as the latency penalty reads it.

(Thesis, section 3; IEEE Access 2022, section IV-A: the latency of a network is approximated by the sum of
its operations' latencies, measured beforehand.)
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rarts_mm.analysis import Latency, environment, measure_latency
from rarts_mm.files import read_json, write_text
from rarts_mm.invocation import spelled
from rarts_mm.search.penalties.latency import differences
from rarts_mm.version import __version__

from .architecture import Architecture
from .places import (
    Places,
    chosen_edges,
    edge_counts,
    find_places,
    find_search_network,
    identity_of,
    input_shapes,
)
from .table_checks import check_table

# A timed call takes at least this long, in ms: shorter operations run several times in one, so that
# neither the clock nor the launch and synchronisation of a GPU stand for them.
LEAST = 0.5


@dataclass(frozen=True)
class Shape:
    """The candidate operations at one shape and stride.

    Attributes:
        input: (channels, height, width) of what they read.
        stride: 1 or 2.
        places: kind of cell -> at how many edges of the network, over all its cells.
        operations: name -> measured latency, in ms of one execution.
    """

    input: tuple[int, int, int]
    stride: int
    places: dict[str, int]
    operations: dict[str, Latency]


@dataclass(frozen=True)
class LatencyTable:
    """Latencies of all operations, as measured.

    Attributes:
        latencies: kind of cell -> (edges, operations) ms, each summed over all cells of the kind.
        network: what network it is of, see :func:`~rarts_mm.cells.places.identity_of`.
        measured: how: device, dtype, threads, batch size, repeats, versions, date.
        shapes: the measurements.
    """

    latencies: dict[str, list[list[float]]]
    network: dict[str, Any]
    measured: dict[str, Any]
    shapes: tuple[Shape, ...]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    def write(self, path: str | Path) -> None:
        """Write the JSON file, whole."""
        write_text(path, json.dumps(self.to_dict(), indent=1) + "\n")

    @classmethod
    def read(cls, path: str | Path) -> "LatencyTable":
        """Read a file that :meth:`write` wrote.

        Raises:
            ValueError: no such file, or no table of this kind.
        """
        if not Path(path).is_file():
            raise ValueError(
                f"latency table {str(path)!r} does not exist; measure one: python "
                f"{spelled('latency-table')} CONFIG"
            )
        try:
            content = read_json(path)
            check_table(content)
        except ValueError as error:
            raise ValueError(
                f"{path} is no latency table: {error}; measure one: python "
                f"{spelled('latency-table')} CONFIG"
            ) from error
        shapes = tuple(
            Shape(
                tuple(shape["input"]),
                shape["stride"],
                shape["places"],
                {name: Latency(**found) for name, found in shape["operations"].items()},
            )
            for shape in content["shapes"]
        )
        return cls(content["latencies"], content["network"], content["measured"], shapes)

    def check(self, model: nn.Module) -> None:
        """Raise a ValueError unless the table is of the search network in this model."""
        network = find_search_network(model)
        size = tuple(self.network["input_size"])
        if odd := differences(self.network, identity_of(network, size)):
            raise ValueError(f"it is of another network than the one that was searched ({odd})")

    def predict(self, architecture: Architecture) -> dict[str, float]:
        """Latency of the chosen operations of a derived network, in ms, by kind of cell.

        The network is the one with as many cells and channels as the search network. What it has
        besides its operations (stem, the convolutions that fit a cell's inputs to its width, the
        classifier) is in no table.

        Raises:
            ValueError: the table is of another space than the architecture, or of other cells.
        """
        operations = self.network["operations"]
        rows = {kind: len(latencies) for kind, latencies in self.latencies.items()}
        if (wanted := edge_counts(architecture)).keys() == rows.keys() and wanted != rows:
            raise ValueError(
                f"the latency table of a {self.network['type']} has {_listed(rows)} edges, the "
                f"architecture's cells {_listed(wanted)}: they have other numbers of nodes"
            )
        predicted = dict.fromkeys(self.latencies, 0.0)
        for kind, edge, name in chosen_edges(architecture):
            rows = self.latencies.get(kind, [])
            if name not in operations or edge >= len(rows):
                raise ValueError(
                    f"the latency table of a {self.network['type']} has no {name} on edge {edge} of a "
                    f"{kind} cell: it is of another space than the architecture"
                )
            predicted[kind] += rows[edge][operations.index(name)]
        return predicted


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} ({kind})" for kind, count in counts.items())


def measure_table(
    network: nn.Module,
    size: tuple[int, int],
    batch: int = 1,
    repeats: int = 30,
    warmup: int = 5,
    progress: Callable[[int, int], object] | None = None,
) -> LatencyTable:
    """Measure every operation of a search network at its shapes and strides.

    Operations of equal shape are measured once, side by side, as a derived network has them (pools
    without a norm, norms with weights), in evaluation mode, on the search network's device and in its
    type of numbers.

    Args:
        network: such as a :class:`~rarts_mm.cells.DARTSSearchNetwork`.
        size: height and width of its input.
        batch: images at a time.
        repeats, warmup: rounds that are timed, and rounds before them.
        progress: called with the number of finished rounds, and of all.

    Raises:
        ValueError: no search network; a size that it does not take; a number below 1.
    """
    places = find_places(network)
    if places is None:
        raise ValueError(f"{type(network).__name__} is no search network: it has no operations")
    for name, value, least in (("batch", batch, 1), ("repeats", repeats, 1), ("warmup", warmup, 0)):
        if value < least:
            raise ValueError(f"a latency table needs {name} >= {least}, got {value}")
    if min(size) < 1:
        raise ValueError(f"images have at least one pixel, got a size of {size[0]} x {size[1]}")
    inputs = input_shapes(network, places, size)
    distinct = list(
        dict.fromkeys(zip(inputs, (place.stride for place in places.places), strict=True))
    )
    rounds = len(distinct) * (warmup + repeats)
    done = 0

    def after_round() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, rounds)

    like = next(network.parameters())
    found = {
        key: _measure(places, *key, batch, like, repeats, warmup, after_round) for key in distinct
    }
    measured = {
        **environment(network),
        "batch_size": batch,
        "repeats": repeats,
        "warmup": warmup,
        "rarts_mm": __version__,
    }
    return _summed(places, inputs, found, identity_of(network, size), measured)


def _measure(
    places: Places,
    shape: tuple[int, int, int],
    stride: int,
    batch: int,
    like: torch.Tensor,
    repeats: int,
    warmup: int,
    after_round: Callable[[], object],
) -> dict[str, Latency]:
    """Each operation at one shape and stride."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, *shape, generator=generator).to(like)
    calls, numbers = {}, {}
    with torch.inference_mode():
        for name in places.operations:
            operation = places.build(name, shape[0], stride).to(like).eval()
            numbers[name] = _calls_at_once(operation, x)
            calls[name] = _repeated(operation, x, numbers[name])
    found = measure_latency(calls, repeats, warmup, after_round)
    return {
        name: Latency(
            *(value / numbers[name] for value in (latency.median, latency.lower, latency.upper)),
            latency.repeats,
        )
        for name, latency in found.items()
    }


def _calls_at_once(operation: nn.Module, x: torch.Tensor) -> int:
    """How many executions take at least :data:`LEAST` ms together."""
    # The first one chooses algorithms and allocates.
    operation(x)
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    start = time.perf_counter()
    operation(x)
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    return min(1000, math.ceil(LEAST / max(1000 * (time.perf_counter() - start), 1e-6)))


def _repeated(operation: nn.Module, x: torch.Tensor, number: int) -> Callable[[], None]:
    def call() -> None:
        for _ in range(number):
            operation(x)

    return call


def _summed(
    places: Places,
    inputs: Sequence[tuple[int, int, int]],
    found: dict[tuple, dict[str, Latency]],
    network: dict[str, Any],
    measured: dict[str, Any],
) -> LatencyTable:
    """The table: every place adds its shape's latencies to the row of its edge."""
    columns = len(places.operations)
    latencies = {
        kind: [[0.0] * columns for _ in range(edges)] for kind, edges in network["edges"].items()
    }
    counts: dict[tuple, dict[str, int]] = {key: {} for key in found}
    for place, shape in zip(places.places, inputs, strict=True):
        key = (shape, place.stride)
        counts[key][place.kind] = counts[key].get(place.kind, 0) + 1
        row = latencies[place.kind][place.edge]
        for i, name in enumerate(places.operations):
            row[i] += found[key][name].median
    shapes = tuple(Shape(*key, counts[key], operations) for key, operations in found.items())
    return LatencyTable(latencies, network, measured, shapes)
