"""Places what is drawn of a cell in layers, with few crossings (Sugiyama's method)."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.optimize import isotonic_regression

Item = Hashable
Link = tuple[Item, Item]
SWEEPS = 12


@dataclass(frozen=True)
class Layout:
    """Attributes:
    layers: the items of each layer, from top to bottom.
    y: item -> its height, upwards.
    """

    layers: tuple[tuple[Item, ...], ...]
    y: dict[Item, float]


def place(
    layers: Sequence[Sequence[Item]], links: Sequence[Link], room: Mapping[Item, float]
) -> Layout:
    """Order every layer so that few links cross, and place its items near their neighbours.

    Args:
        layers: items by layer; the order of the first layer stays.
        links: pairs of items of adjacent layers, left one first.
        room: item -> the height that it takes.

    Returns:
        The same for the same input: there is nothing random.
    """
    layers = _ordered([list(layer) for layer in layers], links)
    return Layout(tuple(map(tuple, layers)), _heights(layers, links, room))


def crossings(layers: Sequence[Sequence[Item]], links: Sequence[Link]) -> int:
    """How many pairs of links cross."""
    place_of = {item: i for layer in layers for i, item in enumerate(layer)}
    layer_of = {item: number for number, layer in enumerate(layers) for item in layer}
    count = 0
    for i, (a, b) in enumerate(links):
        for c, d in links[:i]:
            if layer_of[a] == layer_of[c]:
                count += (place_of[a] - place_of[c]) * (place_of[b] - place_of[d]) < 0
    return count


def _ordered(layers: list[list[Item]], links: Sequence[Link]) -> list[list[Item]]:
    left, right = _neighbours(links)
    best, fewest = [list(layer) for layer in layers], crossings(layers, links)
    for sweep in range(SWEEPS):
        forwards = sweep % 2 == 0
        neighbours = left if forwards else right
        inner = range(1, len(layers))
        for number in inner if forwards else reversed(inner):
            beside = layers[number - 1 if forwards else number + 1 : None][:1]
            if not beside:
                continue
            place_of = {item: i for i, item in enumerate(beside[0])}
            layers[number].sort(key=lambda item: _mean(neighbours[item], place_of))
        if (count := crossings(layers, links)) < fewest:
            best, fewest = [list(layer) for layer in layers], count
    return best


def _heights(
    layers: Sequence[Sequence[Item]], links: Sequence[Link], room: Mapping[Item, float]
) -> dict[Item, float]:
    # Distance of each item from the first of its layer, as near as they may come.
    offsets = {}
    for layer in layers:
        distances = [0.0] + [(room[a] + room[b]) / 2 for a, b in pairwise(layer)]
        offsets[tuple(layer)] = np.cumsum(distances)
    y = {}
    for layer, down in offsets.items():
        y.update(zip(layer, down - down[-1] / 2, strict=True))
    left, right = _neighbours(links)
    for sweep in range(SWEEPS):
        for layer, down in offsets.items() if sweep % 2 == 0 else reversed(offsets.items()):
            wanted = [_mean(left.get(i, []) + right.get(i, []), y, y[i]) for i in layer]
            # The nearest heights that keep the order and the distances.
            fitted = isotonic_regression(np.asarray(wanted) - down).x + down
            y.update(zip(layer, fitted, strict=True))
    # Upwards; rounded, so that another machine's last bits do not show in the picture.
    return {item: round(-float(value), 3) + 0.0 for item, value in y.items()}


def _neighbours(links: Sequence[Link]) -> tuple[dict[Item, list[Item]], dict[Item, list[Item]]]:
    left: dict[Item, list[Item]] = {}
    right: dict[Item, list[Item]] = {}
    for a, b in links:
        right.setdefault(a, []).append(b)
        left.setdefault(b, []).append(a)
        left.setdefault(a, [])
        right.setdefault(b, [])
    return left, right


def _mean(items: Sequence[Item], values: Mapping[Item, float], default: float = 0.0) -> float:
    return sum(values[item] for item in items) / len(items) if items else default
