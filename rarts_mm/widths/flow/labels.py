"""Labels: which atoms the elements of a tensor belong to.

A tensor has layers of labels. A layer is a tensor of atoms with the dimensions of the tensor that it is
of, of length 1 where it does not vary: (1, C, 1, 1) for the map behind a convolution. Most tensors have
one layer or none; a weight has one for its outputs and one for its inputs. An element is gone as soon as
the atom of one of its layers is.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from .atoms import Atoms

Layers = tuple[Tensor, ...]


def varying(layer: Tensor) -> frozenset[int]:
    """The dimensions along which a layer varies."""
    return frozenset(d for d, size in enumerate(layer.shape) if size > 1)


def compact(atoms: Atoms, layer: Tensor) -> Tensor | None:
    """A layer with length 1 wherever it does not vary; None where nothing in it can go."""
    for dim, (size, stride) in enumerate(zip(layer.shape, layer.stride(), strict=True)):
        if size > 1 and stride == 0:
            layer = layer.narrow(dim, 0, 1)
    layer = atoms.roots(layer)
    if atoms.stay(layer):
        return None
    for dim, size in enumerate(layer.shape):
        if size > 1 and bool((layer == layer.narrow(dim, 0, 1)).all()):
            layer = layer.narrow(dim, 0, 1)
    return layer


def clusters(layers: Iterable[tuple[int, Tensor]]) -> list[list[tuple[int, Tensor]]]:
    """Layers of several operands, each with its operand's number, by what varies along common dimensions."""
    found: list[tuple[set[int], list[tuple[int, Tensor]]]] = []
    for number, layer in layers:
        dims, members = set(varying(layer)), [(number, layer)]
        rest = []
        for other_dims, other in found:
            if dims & other_dims or not dims or not other_dims:
                dims |= other_dims
                members = [*other, *members]
            else:
                rest.append((other_dims, other))
        found = [*rest, (dims, members)]
    return [members for _, members in found]


def join(atoms: Atoms, layers: Sequence[Tensor]) -> Tensor:
    """One layer for an element-by-element result: what stands at one position goes together.

    An atom that meets none is frozen by it.
    """
    first, *others = layers
    for layer in others:
        a, b = torch.broadcast_tensors(first, layer)
        atoms.unite(a, b)
        first = torch.maximum(a, b)
    return first


def vector(atoms: Atoms, layers: Layers, dim: int) -> tuple[Tensor | None, Layers]:
    """The atoms along one dimension, and the layers that do not vary along it.

    Whoever reads index i of this dimension reads all that stands there: it is united.

    Returns:
        (size,) atoms or None, and the rest.
    """
    found, rest = [], []
    for layer in layers:
        (found if layer.shape[dim] > 1 else rest).append(layer)
    if not found:
        return None, tuple(rest)
    rows = []
    for layer in found:
        row = layer.movedim(dim, 0).reshape(layer.shape[dim], -1)
        largest = row.amax(1)
        atoms.unite(largest[:, None], row)
        rows.append(largest)
    for row in rows[1:]:
        atoms.unite(rows[0], row)
    return atoms.roots(torch.stack(rows).amax(0)), tuple(rest)
