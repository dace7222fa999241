"""Which dimensions a ratio removes."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def rank_scores(alphas: Mapping[str, Tensor], ratio: float, min_keep: int = 1) -> dict[str, Tensor]:
    """Sort all scores of a network by |alpha| together and remove the lowest share.

    Exactly ``round(ratio * total)`` dimensions go, the smallest |alpha| first, except that no unit
    gets below its floor (thesis, section 4.3, with a floor to keep every layer alive). The result
    depends on names and values alone, not on the order of ``alphas``. Of equal scores, those at
    the end of their unit, relative to its size, go first, so equal scores prune evenly.

    Args:
        alphas: Unit name -> (size,) scores, or the numbers of another criterion
            (:func:`~rarts_mm.widths.importance`).
        ratio: Share of all scores to remove, in (0, 1).
        min_keep: Dimensions that every unit keeps at least; smaller units stay whole.

    Returns:
        Unit name -> (kept,) sorted int64 indices of the dimensions to keep, on the CPU.

    Raises:
        ValueError: A bad ratio or floor, a score that is not finite, or a ratio that the floors
            make impossible.
    """
    if not isinstance(ratio, int | float) or isinstance(ratio, bool) or not 0 < ratio < 1:
        raise ValueError(
            f"The ratio must be a number between 0 and 1, exclusive (0.4 removes 40 %), "
            f"got {ratio!r}."
        )
    if not isinstance(min_keep, int) or isinstance(min_keep, bool) or min_keep < 1:
        raise ValueError(f"min_keep must be a whole number of at least 1, got {min_keep!r}.")
    if not alphas:
        raise ValueError("There are no scores to rank.")

    names = sorted(alphas)
    magnitudes = [_magnitude(name, alphas[name]) for name in names]
    sizes = np.array([len(magnitude) for magnitude in magnitudes])
    total = int(sizes.sum())
    target = round(ratio * total)
    spare = np.maximum(sizes - min_keep, 0)
    if target > spare.sum():
        raise ValueError(
            f"A ratio of {ratio} removes {target} of {total} dimensions, but with at least "
            f"{min_keep} kept in each of {len(names)} units only {spare.sum()} can go: the largest "
            f"ratio is {spare.sum() / total:.4f}. Lower the ratio or min_keep."
        )

    unit = np.repeat(np.arange(len(names)), sizes)
    index = np.concatenate([np.arange(size) for size in sizes])
    # The last key is the first to sort by.
    order = np.lexsort((unit, -index / sizes[unit], np.concatenate(magnitudes)))
    # A unit's spare lowest are the candidates: what its floor protects is passed over.
    rank_in_unit = np.empty(total, dtype=np.int64)
    for number in range(len(names)):
        of_unit = order[unit[order] == number]
        rank_in_unit[of_unit] = np.arange(len(of_unit))
    candidates = order[rank_in_unit[order] < spare[unit[order]]]

    keep = np.ones(total, dtype=bool)
    keep[candidates[:target]] = False
    return {
        names[number]: torch.from_numpy(index[keep & (unit == number)])
        for number in (names.index(name) for name in alphas)
    }


def _magnitude(name: str, alpha: Tensor) -> np.ndarray:
    magnitude = alpha.detach().to("cpu", torch.float64).abs().numpy()
    if magnitude.ndim != 1 or not magnitude.size:
        raise ValueError(f"The scores of {name} must be a vector, got shape {tuple(alpha.shape)}.")
    if bad := int((~np.isfinite(magnitude)).sum()):
        raise ValueError(
            f"{bad} of the {magnitude.size} scores of {name} are NaN or infinite, so they cannot "
            "be ranked: the search has diverged. Go back to an earlier checkpoint."
        )
    return magnitude
