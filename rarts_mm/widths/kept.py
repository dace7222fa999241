"""Kept indices: the plan that ranking makes and that masking and slicing carry out."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .scores import check_names

Kept = Mapping[str, Tensor | Sequence[int]]


def check_kept(kept: Kept, sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """Kept indices as sorted int64 vectors on the CPU, one per unit.

    Args:
        kept: Unit name -> indices of the dimensions to keep.
        sizes: Unit name -> number of dimensions.

    Raises:
        ValueError: The names differ, or a unit's indices are none, not whole, not distinct or out
            of range.
    """
    check_names(kept, sizes, "kept dimensions")
    checked = {}
    for name, size in sizes.items():
        indices = torch.as_tensor(kept[name]).cpu()
        if indices.ndim != 1 or not indices.numel():
            raise ValueError(f"{name} must keep at least one dimension, got {kept[name]!r}.")
        if indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool:
            raise ValueError(f"The kept dimensions of {name} must be indices, got {kept[name]!r}.")
        unique = indices.to(torch.int64).unique(sorted=True)
        if len(unique) != len(indices) or unique[0] < 0 or unique[-1] >= size:
            raise ValueError(
                f"The kept dimensions of {name} must be distinct and from 0 to {size - 1}, got "
                f"{indices.tolist()}."
            )
        checked[name] = unique
    return checked
