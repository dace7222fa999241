"""A model that is distilled into: the student itself, with one more term in its loss."""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from mmengine.config import ConfigDict
from torch import Tensor, nn

from rarts_mm.registry import MODELS

from .preprocessing import require_same_preprocessing
from .teacher import build_teacher


class Distillation(ABC):
    """What a student learns from its teacher, and the teacher.

    No module, so that the teacher is in no state dict, optimiser, gradient bucket or average of the
    student; copies of the student share it.

    Args:
        student: checked against the teacher.
        teacher: a frozen network in evaluation mode.
        temperature: T > 0.
        weights: factors of the loss's terms by the name of their option, none negative; ``task_weight``
            is that of the student's own loss.
    """

    def __init__(
        self, student: nn.Module, teacher: nn.Module, temperature: float, **weights: float
    ) -> None:
        if not (_is_finite(temperature) and temperature > 0):
            raise ValueError(f"temperature must be a positive number, got {temperature!r}")
        for name, weight in weights.items():
            if not (_is_finite(weight) and weight >= 0):
                raise ValueError(f"{name} must be a number from 0 on, got {weight!r}")
        require_same_preprocessing(student, teacher)
        self.teacher = teacher
        self.temperature = temperature
        self.weights = weights

    def __deepcopy__(self, memo: dict) -> "Distillation":
        return self

    @abstractmethod
    def losses(self, student: nn.Module, own: Callable, inputs: Tensor, samples: list, **more: Any):
        """The student's losses, weighted, and those of the distillation.

        Args:
            student: the student, which may be a copy of the one that was checked.
            own: the student's own ``loss``.
            inputs: (N, channels, height, width), preprocessed.
            samples: N data samples.
        """

    def follow(self, inputs: Tensor) -> None:
        """Take the teacher where the batch is, should a copy of the student have moved it away."""
        here = next(self.teacher.parameters()).device
        if here != inputs.device:
            self.teacher.to(inputs.device)

    def weighted(self, losses: Mapping[str, Any]) -> dict[str, Any]:
        """The student's own losses times ``task_weight``; accuracies and the like stay."""
        weight = self.weights["task_weight"]
        if weight == 1:
            return dict(losses)
        return {k: _times(v, weight) if "loss" in k else v for k, v in losses.items()}


class Distilled:
    """Mixin of a student: its loss is that of its distillation, everything else its own class's."""

    distillation: Distillation

    def loss(self, inputs: Tensor, data_samples: list, **kwargs: Any) -> dict[str, Any]:
        return self.distillation.losses(self, super().loss, inputs, data_samples, **kwargs)

    def _apply(self, fn: Callable, recurse: bool = True) -> nn.Module:
        # The teacher goes along to another device or precision, as a submodule would.
        self.distillation.teacher._apply(fn)
        return super()._apply(fn, recurse)


def build_pair(
    student: Mapping[str, Any],
    teacher: Mapping[str, Any],
    teacher_checkpoint: str,
    data_preprocessor: Mapping[str, Any] | None = None,
) -> tuple[nn.Module, nn.Module]:
    """Build student and teacher; a preprocessor stands in where one has none."""
    both = []
    for cfg in (student, teacher):
        # The libraries write into the dicts that they build from, and read their keys as attributes.
        cfg = ConfigDict(copy.deepcopy(dict(cfg)))
        if data_preprocessor is not None and cfg.get("data_preprocessor") is None:
            cfg["data_preprocessor"] = copy.deepcopy(data_preprocessor)
        both.append(cfg)
    return MODELS.build(both[0]), build_teacher(both[1], str(teacher_checkpoint))


def distill_into(student: nn.Module, distillation: Distillation) -> nn.Module:
    """Make a built model a student; it stays the same object, with a subclass of its class.

    Names of parameters, state dict, optimiser groups, hooks and predictions are the plain model's then,
    as it is one.
    """
    plain = type(student)
    student.__class__ = type(f"Distilled{plain.__name__}", (Distilled, plain), {})
    student.distillation = distillation
    return student


def _is_finite(number: object) -> bool:
    return (
        isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)
    )


def _times(value: Tensor | list[Tensor], weight: float) -> Tensor | list[Tensor]:
    return value * weight if isinstance(value, torch.Tensor) else [v * weight for v in value]
