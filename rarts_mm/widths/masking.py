"""A network with removed scores set to zero: what slicing must reproduce."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from .kept import Kept, check_kept


@contextmanager
def masked(alphas: Mapping[str, Tensor], kept: Kept) -> Iterator[None]:
    """Within the context, the scores of all dimensions that are not kept are zero.

    The alphas are changed in place, so every network that refers to them is masked, and get their
    values back at the end, also after an exception.

    Args:
        alphas: Unit name -> (size,) scores.
        kept: Unit name -> indices of the dimensions to keep, for the same units.
    """
    kept = check_kept(kept, {name: alpha.numel() for name, alpha in alphas.items()})
    saved = {name: alpha.detach().clone() for name, alpha in alphas.items()}
    try:
        with torch.no_grad():
            for name, alpha in alphas.items():
                mask = torch.zeros_like(alpha, dtype=torch.bool)
                mask[kept[name].to(alpha.device)] = True
                alpha.masked_fill_(~mask, 0)
        yield
    finally:
        with torch.no_grad():
            for name, alpha in alphas.items():
                alpha.copy_(saved[name])
