"""Where the candidate operations of a search network stand, whichever space it is of."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, singledispatch
from typing import Any

import torch
from torch import nn

from rarts_mm.search.penalties import SearchedNetwork

from .genotype import Genotype
from .network import NORMAL, REDUCTION, DARTSSearchNetwork, count_edges
from .operations import OPERATIONS, build_operation


@dataclass(frozen=True)
class Place:
    """One edge of one cell: all candidate operations, side by side.

    Attributes:
        kind: of the cell: the name of the alpha that weighs them.
        edge: alpha's row.
        channels: of the operations in a derived network; a relaxation may search on fewer.
        stride: of the operations.
        module: whose first argument is what the operations read, (N, C, H, W).
    """

    kind: str
    edge: int
    channels: int
    stride: int
    module: nn.Module


@dataclass(frozen=True)
class Places:
    """All edges of a search network.

    Attributes:
        operations: names of the candidates, in the order of alpha's columns.
        build: (operation, channels, stride) -> the module, as a derived network has it.
        cells: number of cells that alpha is about.
        places: every edge of every such cell.
    """

    operations: tuple[str, ...]
    build: Callable[[str, int, int], nn.Module]
    cells: int
    places: tuple[Place, ...]


@singledispatch
def find_places(network: nn.Module) -> Places | None:
    """The places of a search network, or None for any other module.

    A further space registers its network: ``@find_places.register``.
    """
    del network


@find_places.register
def _(network: DARTSSearchNetwork) -> Places:
    sources = [source for node in range(network.nodes) for source in range(2 + node)]
    return Places(
        tuple(OPERATIONS),
        build_operation,
        len(network.cells),
        tuple(
            Place(
                cell.kind,
                i,
                cell.channels,
                2 if cell.kind == REDUCTION and sources[i] < 2 else 1,
                edge,
            )
            for cell in network.cells
            for i, edge in enumerate(cell.edges)
        ),
    )


@singledispatch
def chosen_edges(architecture: Any) -> list[tuple[str, int, str]]:
    """(kind of cell, row of alpha, operation) for every edge of a derived architecture's cells."""
    raise TypeError(f"{type(architecture).__name__} is no derived architecture")


@chosen_edges.register
def _(genotype: Genotype) -> list[tuple[str, int, str]]:
    return [
        # Node i has i + 2 edges, and those of the nodes before it come first.
        (kind, i // 2 * (i // 2 + 3) // 2 + source, operation)
        for kind in (NORMAL, REDUCTION)
        for i, (operation, source) in enumerate(getattr(genotype, kind))
    ]


@singledispatch
def edge_counts(architecture: Any) -> dict[str, int]:
    """Kind of cell -> rows of alpha in the search that derives such architectures."""
    raise TypeError(f"{type(architecture).__name__} is no derived architecture")


@edge_counts.register
def _(genotype: Genotype) -> dict[str, int]:
    return {kind: count_edges(len(genotype.nodes(kind))) for kind in (NORMAL, REDUCTION)}


def find_search_network(model: nn.Module) -> nn.Module | None:
    """The first module of a model that has candidate operations."""
    return next((m for m in model.modules() if find_places(m) is not None), None)


def input_shapes(
    network: nn.Module, places: Places, size: tuple[int, int]
) -> list[tuple[int, int, int]]:
    """(channels, height, width) of what the operations of every place read in a derived network.

    Sizes are found by one forward pass on an image of ``size`` (height, width), in evaluation mode.

    Raises:
        ValueError: the network does not take this size.
    """
    seen: dict[nn.Module, tuple[int, int]] = {}

    # Networks that compute several edges together fall back to one by one where hooks are.
    def note(module: nn.Module, args: tuple) -> None:
        seen[module] = tuple(args[0].shape[-2:])

    stem = _stem(network)
    handles = [place.module.register_forward_pre_hook(note) for place in places.places]
    training = {m: m.training for m in network.modules()}
    network.eval()
    try:
        # Whatever a relaxation draws here is not missing from the search.
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            network(stem.weight.new_zeros(1, stem.in_channels, *size))
    except RuntimeError as error:
        raise ValueError(
            f"{type(network).__name__} does not take images of {size[0]} x {size[1]}: {error}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
        for module, was in training.items():
            module.training = was
    return [(place.channels, *seen[place.module]) for place in places.places]


def _stem(network: nn.Module) -> nn.Conv2d:
    return next(m for m in network.modules() if isinstance(m, nn.Conv2d))


def identity_of(network: nn.Module, size: tuple[int, int]) -> dict[str, Any]:
    """What tells a search network from others, as far as its operations' cost goes: ready for JSON.

    Type, channels of images and of the first cell, number of cells, operations, edges of each kind of cell, the size
    of its input, and a digest of the shape and stride at every place.
    """
    places = find_places(network)
    shapes = input_shapes(network, places, size)
    edges: dict[str, set[int]] = {}
    for place in places.places:
        edges.setdefault(place.kind, set()).add(place.edge)
    everything = [
        places.operations,
        [(p.kind, p.edge, p.stride, s) for p, s in zip(places.places, shapes, strict=True)],
    ]
    return {
        "type": type(network).__name__,
        "in_channels": _stem(network).in_channels,
        "channels": shapes[0][0],
        "layers": places.cells,
        "operations": list(places.operations),
        "edges": {kind: len(numbers) for kind, numbers in edges.items()},
        "input_size": list(size),
        "digest": hashlib.sha256(json.dumps(everything).encode()).hexdigest()[:16],
    }


def searched_network(model: nn.Module) -> SearchedNetwork | None:
    """What penalties may ask about a :class:`~rarts_mm.models.SearchModel`; None without cells."""
    network = find_search_network(model)
    if network is None:
        return None
    return SearchedNetwork(network, network.relaxation.scores, partial(identity_of, network))
