"""Where the candidate operations of the NATS-Bench search network stand."""

from ..places import Place, Places, chosen_edges, edge_counts, find_places
from .architecture import NATSArchitecture
from .network import CELL, NATSSearchCell, NATSSearchNetwork
from .operations import NATS_OPERATIONS, build_nats_operation


@find_places.register
def _(network: NATSSearchNetwork) -> Places:
    cells = [cell for cell in network.cells if isinstance(cell, NATSSearchCell)]
    return Places(
        NATS_OPERATIONS,
        # All operations have stride 1.
        lambda name, channels, stride: build_nats_operation(name, channels),
        len(cells),
        tuple(
            Place(CELL, i, cell.channels, 1, edge)
            for cell in cells
            for i, edge in enumerate(cell.edges)
        ),
    )


@chosen_edges.register
def _(architecture: NATSArchitecture) -> list[tuple[str, int, str]]:
    return [(CELL, edge, name) for edge, name in enumerate(architecture.operations)]


@edge_counts.register
def _(architecture: NATSArchitecture) -> dict[str, int]:
    return {CELL: len(architecture.operations)}
