"""Atoms: index i of dimension d of a parameter, and which of them can only go together."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

MEETS_FIXED = "it meets something whose width does not depend on any parameter"


@dataclass(frozen=True)
class Place:
    """One dimension of a parameter or buffer, whose indices are atoms ``start`` to ``start + size``.

    Attributes:
        name: of the parameter or buffer, the first of its names where it has several.
        dim: the dimension.
        start: number of the first atom.
        size: length of the dimension.
    """

    name: str
    dim: int
    start: int
    size: int


class Atoms:
    """All atoms of a network, united to classes as an analysis finds out what belongs together.

    Atom 0 is none: what carries it is there whatever is cut.
    """

    def __init__(self) -> None:
        self.places: list[Place] = []
        self._parent = np.zeros(1, dtype=np.int64)
        self._reasons: dict[int, str] = {}
        # By root.
        self._stays = np.ones(1, dtype=bool)

    def __len__(self) -> int:
        return len(self._parent)

    def add(self, name: str, dim: int, size: int) -> Place:
        """Atoms for a dimension of a parameter."""
        place = Place(name, dim, len(self._parent), size)
        self.places.append(place)
        numbers = np.arange(place.start, place.start + size, dtype=np.int64)
        self._parent = np.concatenate([self._parent, numbers])
        self._stays = np.concatenate([self._stays, np.zeros(size, dtype=bool)])
        return place

    def roots(self, labels: Tensor) -> Tensor:
        """The representative of each atom's class, the smallest atom in it."""
        found = self._roots(labels.detach().numpy().astype(np.int64, copy=False))
        return torch.from_numpy(np.ascontiguousarray(found)).reshape(labels.shape)

    def unite(self, first: Tensor, second: Tensor, reason: str = MEETS_FIXED) -> None:
        """Let each pair of atoms be of one class.

        Args:
            first, second: atoms, broadcast to each other.
            reason: why an atom whose partner is atom 0 stays.
        """
        a, b = (
            each.detach().numpy().reshape(-1) for each in torch.broadcast_tensors(first, second)
        )
        lonely = (a == 0) != (b == 0)
        if lonely.any():
            self.freeze(torch.from_numpy(np.maximum(a, b)[lonely]), reason)
            a, b = a[~lonely], b[~lonely]
        while True:
            a, b = self._roots(a), self._roots(b)
            differ = a != b
            if not differ.any():
                return
            a, b = a[differ], b[differ]
            # As one number each, and each once.
            pairs = np.unique(np.minimum(a, b) * len(self) + np.maximum(a, b))
            a, b = pairs // len(self), pairs % len(self)
            # The smaller one is the parent; where an atom is in several pairs the rest comes next time.
            np.minimum.at(self._parent, b, a)
            np.logical_or.at(self._stays, self._roots(a), self._stays[b])

    def freeze(self, labels: Tensor, reason: str) -> None:
        """These atoms stay, and so do their classes; the first reason is kept."""
        there = np.zeros(len(self), dtype=bool)
        there[labels.detach().numpy()] = True
        there[0] = False
        found = there.nonzero()[0]
        for atom in found.tolist():
            self._reasons.setdefault(atom, reason)
        self._stays[self._roots(found)] = True

    def freeze_all(self, layers: Iterable[Tensor], reason: str) -> None:
        """As :meth:`freeze`, for several."""
        for layer in layers:
            self.freeze(layer, reason)

    def stay(self, roots: Tensor) -> bool:
        """Whether all of these classes are frozen."""
        return bool(self._stays[roots.numpy()].all())

    def frozen(self) -> dict[int, str]:
        """Root -> why its class stays. Atom 0's class stays by itself."""
        found: dict[int, str] = {}
        for atom, reason in self._reasons.items():
            found.setdefault(int(self._roots(np.array([atom]))[0]), reason)
        return found

    def all_roots(self) -> np.ndarray:
        """(number of atoms,) the root of each."""
        return self._roots(np.arange(len(self._parent), dtype=np.int64))

    def _roots(self, labels: np.ndarray) -> np.ndarray:
        found = self._parent[labels]
        while True:
            above = self._parent[found]
            if (above == found).all():
                break
            found = above
        # Shorter ways from now on.
        self._parent[labels] = found
        return found
