"""Distillation of the features that a detector's heads read."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


def feature_distance(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Mean squared difference of two detectors' features: the mean over each level, then over levels.

    Args:
        student: a tensor (N, channels, height, width) per level.
        teacher: the same of the teacher; no gradient flows into them.

    Raises:
        ValueError: they differ in levels or in a level's shape.
    """
    ours, theirs = ([tuple(x.shape) for x in xs] for xs in (student, teacher))
    if ours != theirs:
        raise ValueError(
            f"the teacher's features have the shapes {theirs}, the student's {ours}: {_REMEDY}"
        )
    # Squares of half-precision numbers overflow early.
    pairs = zip(student, teacher, strict=True)
    distances = [F.mse_loss(_single(own), _single(other.detach())) for own, other in pairs]
    return sum(distances) / len(distances)


def require_same_features(student: nn.Module, teacher: nn.Module) -> None:
    """Raise where the necks say that their outputs differ; :func:`feature_distance` sees the rest."""
    pairs = [(getattr(m, "neck", None), getattr(m, "backbone", None)) for m in (student, teacher)]
    ours, theirs = (neck if neck is not None else backbone for neck, backbone in pairs)
    for what, name in (("channels", "out_channels"), ("levels", "num_outs")):
        own, other = getattr(ours, name, None), getattr(theirs, name, None)
        if None not in (own, other) and own != other:
            raise ValueError(
                f"the teacher's {type(theirs).__name__} gives features of {other} {what}, the student's "
                f"{type(ours).__name__} of {own}: {_REMEDY}"
            )


_REMEDY = (
    "they cannot be compared. Take a teacher with the student's neck (pruning keeps its outer widths), "
    "or set feature_weight=0"
)


def _single(x: Tensor) -> Tensor:
    return x.float() if x.element_size() < 4 else x
