"""Predicted and measured latency of a derived network."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rarts_mm.analysis import Latency, environment, measure_latency
from rarts_mm.cells import DARTSNetwork, NATSArchitecture, NATSNetwork, NATSSearchNetwork
from rarts_mm.cells.architecture import Architecture
from rarts_mm.cells.genotype import Genotype
from rarts_mm.cells.latency_table import LatencyTable
from rarts_mm.invocation import spelled

from .errors import UsageError
from .latency_table import check_device, torch_threads


@dataclass(frozen=True)
class LatencyReport:
    """What a derived network costs, in ms, as the table predicts it and as it is.

    Attributes:
        architecture: the derived one.
        predicted: kind of cell -> the table's latencies of the chosen operations, over all cells.
        measured: of the derived network with the search network's channels and cells, without a
            classifier.
        network: the table's network.
        environment: where and how it was measured.
    """

    architecture: Architecture
    predicted: dict[str, float]
    measured: Latency
    network: dict[str, Any]
    environment: dict[str, Any]

    @property
    def predicted_sum(self) -> float:
        """Of all cells, in ms."""
        return sum(self.predicted.values())

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "architecture": self.architecture.to_dict(),
            "predicted": {**self.predicted, "sum": self.predicted_sum},
            "measured": self.measured.to_dict(),
            "network": self.network,
            "environment": self.environment,
        }

    def __str__(self) -> str:
        network, where = self.network, self.environment
        height, width = network["input_size"]
        parts = ", ".join(f"{kind} {ms:.3f}" for kind, ms in self.predicted.items())
        return "\n".join(
            [
                f"{network['layers']} cells, C = {network['channels']}, {height} x {width} pixels, "
                f"{where['batch_size']} at a time; {where['device']}, {where['threads']} threads",
                f"predicted: {self.predicted_sum:.3f} ms ({parts}), the chosen operations alone",
                f"measured:  {self.measured}, with stem and the convolutions before the operations",
            ]
        )


def latency_report(
    architecture: Architecture | str | Path | Mapping[str, Any],
    table: LatencyTable | str | Path,
    device: str | None = None,
    repeats: int = 30,
) -> LatencyReport:
    """Predict a derived network's latency from a table, and measure it.

    Args:
        architecture: a genotype or NATS-Bench architecture, what its class can parse, or a file with
            its text or JSON.
        table: a latency table, or its file.
        device: where to measure; default: the table's kind of device, with its number of threads.
        repeats: timed rounds.

    Raises:
        UsageError: an architecture or a table that cannot be read, or that do not belong together; no such
            device here.
    """
    try:
        table = table if isinstance(table, LatencyTable) else LatencyTable.read(table)
        of_nats = table.network["type"] == NATSSearchNetwork.__name__
        parsed = (NATSArchitecture if of_nats else Genotype).parse(_content(architecture))
        predicted = table.predict(parsed)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if repeats < 1:
        raise UsageError(f"--repeats {repeats}: give at least 1")
    measured, where = measure_derived({"derived": parsed}, table, device, repeats)
    return LatencyReport(parsed, predicted, measured["derived"], table.network, where)


def measure_derived(
    architectures: Mapping[str, Architecture],
    table: LatencyTable,
    device: str | None = None,
    repeats: int = 30,
) -> tuple[dict[str, Latency], dict[str, Any]]:
    """Time derived networks side by side, with the table's channels, cells, image and batch size.

    Args:
        architectures: name -> architecture.
        table, device, repeats: as for :func:`latency_report`.

    Returns:
        Name -> latency of the network, and where it was measured.
    """
    of_table = table.measured["device"].partition(":")[0]
    device = device or of_table
    check_device(device)
    batch, size = table.measured["batch_size"], table.network["input_size"]
    with torch_threads(table.measured["threads"] if device == of_table else None):
        networks = {n: _derived_network(a, table, device) for n, a in architectures.items()}
        first = next(iter(networks.values()))
        images = torch.randn(batch, table.network["in_channels"], *size)
        images = images.to(next(first.parameters()))
        calls = {name: partial(network, images) for name, network in networks.items()}
        return measure_latency(calls, repeats), {**environment(first), "batch_size": batch}


def _derived_network(architecture: Architecture, table: LatencyTable, device: str) -> nn.Module:
    shared = {key: table.network[key] for key in ("channels", "in_channels")}
    layers = table.network["layers"]
    if isinstance(architecture, NATSArchitecture):
        # Three stages of as many cells.
        network = NATSNetwork(architecture.to_dict(), repeats=layers // 3, **shared)
    else:
        network = DARTSNetwork(architecture, layers=layers, auxiliary=False, **shared)
    dtype = getattr(torch, table.measured["dtype"])
    return network.to(device, dtype).eval()


def _content(architecture: Architecture | str | Path | Mapping[str, Any]) -> Any:
    """The content of a file where it is one; else what was given."""
    if not isinstance(architecture, str | Path):
        return architecture
    # The text of a genotype is longer than a file's name may be.
    if len(str(architecture)) < 256 and Path(architecture).is_file():
        return Path(architecture).read_text(errors="replace")
    if isinstance(architecture, Path) or architecture.endswith((".json", ".txt")):
        raise UsageError(
            f"genotype {str(architecture)!r} does not exist; give the file that {spelled('derive')} wrote"
        )
    return architecture
