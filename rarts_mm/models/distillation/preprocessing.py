"""Student and teacher look at one batch, so both must mean the same by it."""

import torch
from torch import nn


def require_same_preprocessing(student: nn.Module, teacher: nn.Module) -> None:
    """Raise unless two models normalise images in the same way.

    The teacher gets the batch that the student's preprocessor made (padding, mixup and all). One that
    was trained on other means, deviations or another order of colours would see wrong images; undoing
    and redoing it is not exact where images are padded.

    Raises:
        ValueError: they differ.
    """
    ours, theirs = _normalisation(student), _normalisation(teacher)
    for what, own in ours.items():
        if own != theirs[what]:
            raise ValueError(
                f"the teacher's data_preprocessor has {what} {theirs[what]}, the student's {own}: both "
                "see the same batch, so they must agree. Take a teacher that was trained with the "
                "student's preprocessing, or fine-tune with the teacher's (data_preprocessor of the "
                "student)"
            )


def _normalisation(model: nn.Module) -> dict[str, object]:
    preprocessor = model.data_preprocessor
    flips = getattr(preprocessor, "_channel_conversion", getattr(preprocessor, "to_rgb", False))
    return {
        "mean": _numbers(preprocessor, "mean"),
        "std": _numbers(preprocessor, "std"),
        "conversion between BGR and RGB": bool(flips),
    }


def _numbers(preprocessor: nn.Module, name: str) -> list[float] | None:
    value = getattr(preprocessor, name, None)
    if not isinstance(value, torch.Tensor):
        return None
    # Single precision, as a float64 preprocessor has the same numbers with other last digits.
    return [round(float(x), 4) for x in value.flatten().tolist()]
