"""An architecture of the NATS-Bench topology space, and its string."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .operations import NATS_OPERATIONS

NODES = 4  # node 0 is the cell's input, node 3 its output
# (node, source) in the order of alpha's rows.
EDGES = tuple((node, source) for node in range(1, NODES) for source in range(node))
NUMBER = len(NATS_OPERATIONS) ** len(EDGES)
_FORM = "|op~0|+|op~0|op~1|+|op~0|op~1|op~2|"


@dataclass(frozen=True)
class NATSArchitecture:
    """One of the 15,625 cells: an operation for each of the six edges.

    Args:
        operations: names, in the order of :data:`EDGES`: 0 -> 1, 0 -> 2, 1 -> 2, 0 -> 3, 1 -> 3, 2 -> 3.

    Raises:
        ValueError: another number of edges, or an unknown operation; says where.
    """

    operations: tuple[str, ...]

    def __post_init__(self) -> None:
        if isinstance(self.operations, str) or len(self.operations) != len(EDGES):
            raise ValueError(
                f"architecture: expected {len(EDGES)} operations, one for each edge, got "
                f"{self.operations!r}"
            )
        for (node, source), name in zip(EDGES, self.operations, strict=True):
            if name not in NATS_OPERATIONS:
                raise ValueError(
                    f"architecture: node {node}, edge from {source}: unknown operation {name!r}; the "
                    f"NATS-Bench topology space has {', '.join(NATS_OPERATIONS)}"
                )
        object.__setattr__(self, "operations", tuple(self.operations))

    @classmethod
    def parse(
        cls, architecture: "NATSArchitecture | str | Mapping[str, Any]"
    ) -> "NATSArchitecture":
        """From NATS-Bench's string, or from :meth:`to_dict`, also as JSON text.

        Raises:
            ValueError: says where and why.
        """
        if isinstance(architecture, cls):
            return architecture
        if isinstance(architecture, str) and architecture.lstrip().startswith("{"):
            try:
                architecture = json.loads(architecture)
            except ValueError as error:
                raise ValueError(f"architecture: no JSON text: {error}") from error
        if isinstance(architecture, Mapping):
            if set(architecture) != {"architecture"}:
                raise ValueError(
                    "architecture: a mapping must have the one key 'architecture', got "
                    f"{sorted(architecture)}"
                    + " (a genotype of DARTS cells, which are not in NATS-Bench)"
                    * ("normal" in architecture)
                )
            architecture = architecture["architecture"]
        if not isinstance(architecture, str):
            raise ValueError(
                f"architecture: expected text of the form {_FORM}, got "
                f"{type(architecture).__name__}"
            )
        return cls(_operations(architecture.strip()))

    @classmethod
    def from_number(cls, number: int) -> "NATSArchitecture":
        """The inverse of :attr:`number`."""
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < NUMBER:
            raise ValueError(
                f"architecture: number {number!r} must be a whole number from 0 to {NUMBER - 1}"
            )
        digits = []
        for _ in EDGES:
            number, digit = divmod(number, len(NATS_OPERATIONS))
            digits.append(NATS_OPERATIONS[digit])
        return cls(tuple(reversed(digits)))

    @property
    def number(self) -> int:
        """The operations read as digits to the base 5, first edge first: 0 is ``none`` everywhere.

        This is not the benchmark's index, which its files alone define
        (:meth:`~rarts_mm.cells.nats.lookup.LookUp.index`).
        """
        number = 0
        for name in self.operations:
            number = number * len(NATS_OPERATIONS) + NATS_OPERATIONS.index(name)
        return number

    def text(self) -> str:
        """NATS-Bench's string: |op~0|+|op~0|op~1|+|op~0|op~1|op~2|."""
        nodes: dict[int, list[str]] = {}
        for (node, source), name in zip(EDGES, self.operations, strict=True):
            nodes.setdefault(node, []).append(f"{name}~{source}")
        return "+".join(f"|{'|'.join(edges)}|" for edges in nodes.values())

    def to_dict(self) -> dict[str, str]:
        """Ready for JSON and for a config."""
        return {"architecture": self.text()}

    @property
    def skip_share(self) -> float:
        """Share of ``skip_connect`` among the six operations."""
        return self.operations.count("skip_connect") / len(self.operations)

    @property
    def skip_shares(self) -> dict[str, float]:
        """The same for each kind of cell, of which there is one."""
        return {"cell": self.skip_share}


def _operations(text: str) -> Sequence[str]:
    nodes = text.split("+")
    if len(nodes) != NODES - 1:
        raise ValueError(
            f"architecture {text!r}: {len(nodes)} nodes between '+', expected {NODES - 1}: {_FORM}"
        )
    names = []
    for node, part in enumerate(nodes, 1):
        where = f"architecture {text!r}: node {node}, {part!r}"
        if len(part) < 2 or part[0] != "|" or part[-1] != "|":
            raise ValueError(f"{where}: must begin and end with '|'")
        edges = part[1:-1].split("|")
        if len(edges) != node:
            raise ValueError(f"{where}: {len(edges)} edges, expected {node}: {_FORM}")
        for source, edge in enumerate(edges):
            name, tilde, number = edge.rpartition("~")
            if not tilde:
                raise ValueError(f"{where}, edge {source}: {edge!r} is not of the form op~input")
            if number != str(source):
                raise ValueError(
                    f"{where}, edge {source}: input {number!r}, expected {source} (inputs in order)"
                )
            names.append(name)
    return names
