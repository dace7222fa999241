"""All dimensions of a network in one order, from the first to go to the last."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

SCOPES = ("global", "layer", "type")


@dataclass(frozen=True)
class Ordering:
    """The dimensions of all units, one after the other, N in all.

    Attributes:
        names: of the units, sorted.
        sizes: (units,) their numbers of dimensions.
        unit, index: (N,) each dimension's unit, and its place in it.
        key: (N,) what is compared, within the scope; larger stays longer.
        place: (N,) each dimension's place in the order: 0 goes first. Of equal keys, dimensions at the
            end of their unit, relative to its size, go first, so equal scores prune evenly.
    """

    names: tuple[str, ...]
    sizes: np.ndarray
    unit: np.ndarray
    index: np.ndarray
    key: np.ndarray
    place: np.ndarray

    def of_unit(self, number: int) -> np.ndarray:
        """The dimensions of a unit, as indices into these arrays, the last to go first."""
        inside = np.flatnonzero(self.unit == number)
        return inside[np.argsort(-self.place[inside])]


def order_dimensions(
    importance: Mapping[str, Tensor], scope: str = "global", kinds: Mapping[str, str] | None = None
) -> Ordering:
    """Order the dimensions of all units by their importance.

    Args:
        importance: Unit name -> (size,) numbers; their magnitudes count.
        scope: ``'global'``: all are compared with all. ``'layer'``: each within its unit, so that all
            units lose the same share. ``'type'``: within its kind, so that each kind loses the same
            share of all its dimensions (attention and MLP ranked apart).
        kinds: Unit name -> kind; needed for ``'type'``.

    Returns:
        An order that depends on names and values alone, not on the order of ``importance``.

    Raises:
        ValueError: An unknown scope; numbers that are no vector, or not finite; nothing to rank.
    """
    if scope not in SCOPES:
        raise ValueError(f"The scope must be one of {', '.join(SCOPES)}, got {scope!r}.")
    if not importance:
        raise ValueError("There are no scores to rank.")
    names = tuple(sorted(importance))
    magnitudes = [_magnitude(name, importance[name]) for name in names]
    sizes = np.array([len(magnitude) for magnitude in magnitudes])
    unit = np.repeat(np.arange(len(names)), sizes)
    index = np.concatenate([np.arange(size) for size in sizes])
    key = np.concatenate(magnitudes)
    if scope != "global":
        groups = unit
        if scope == "type":
            assert kinds is not None, "scope 'type' needs the units' kinds"
            known = sorted(set(kinds.values()))
            groups = np.array([known.index(kinds[name]) for name in names])[unit]
        key = _quantiles(_order(key, unit, index, sizes), groups)
    place = np.empty(len(key), dtype=np.int64)
    place[_order(key, unit, index, sizes)] = np.arange(len(key))
    return Ordering(names, sizes, unit, index, key, place)


def _order(key: np.ndarray, unit: np.ndarray, index: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    # The last key is the first to sort by.
    return np.lexsort((unit, -index / sizes[unit], key))


def _quantiles(order: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Each dimension's rank among those of its group, in (0, 1)."""
    key = np.empty(len(order))
    for group in np.unique(groups):
        inside = order[groups[order] == group]
        key[inside] = (np.arange(len(inside)) + 0.5) / len(inside)
    return key


def _magnitude(name: str, alpha: Tensor) -> np.ndarray:
    magnitude = alpha.detach().to("cpu").double().abs().numpy()
    if magnitude.ndim != 1 or not magnitude.size:
        raise ValueError(f"The scores of {name} must be a vector, got shape {tuple(alpha.shape)}.")
    if bad := int((~np.isfinite(magnitude)).sum()):
        raise ValueError(
            f"{bad} of the {magnitude.size} scores of {name} are NaN or infinite, so they cannot "
            "be ranked: the search has diverged. Go back to an earlier checkpoint."
        )
    return magnitude
