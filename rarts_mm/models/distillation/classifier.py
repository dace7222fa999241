"""Distillation of classifiers."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rarts_mm.registry import MODELS

from .distilled import Distillation, build_pair, distill_into
from .divergences import softmax_divergence
from .kinds import is_classifier
from .recording import recorded


@MODELS.register_module()
def DistilledClassifier(
    student: Mapping[str, Any],
    teacher: Mapping[str, Any],
    teacher_checkpoint: str,
    temperature: float = 4.0,
    task_weight: float = 1.0,
    kd_weight: float = 1.0,
    data_preprocessor: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Build a classifier of MMPretrain that is trained with L_task + L_KD (thesis, section 4.2.1).

    .. code-block:: python

        model = dict(
            type='rarts_mm.DistilledClassifier',
            student=dict(type='rarts_mm.PrunedModel', ...),
            teacher=dict(type='ImageClassifier', ...),
            teacher_checkpoint='baseline.pth')

    L_KD = KL(softmax(teacher / T) || softmax(student / T)), averaged over the batch, is logged as
    ``loss_kd``.

    Args:
        student: config of the classifier that is trained.
        teacher: config of the classifier that it learns from.
        teacher_checkpoint: the teacher's weights, a file or a URL.
        temperature: T.
        task_weight: factor of the student's own losses.
        kd_weight: factor of L_KD. There is no factor T^2 unless it is in here: the variant of TAS,
            (1 - a) L_task + a T^2 L_KD with a = 0.9, is ``task_weight=0.1, kd_weight=14.4``.
        data_preprocessor: of whichever of the two has none.

    Returns:
        The student itself, an ordinary object of (a subclass of) its class: its checkpoints are those
        of a plain model.

    Raises:
        ValueError: the two do not fit, or the checkpoint does not fit the teacher.
    """
    student, teacher = build_pair(student, teacher, teacher_checkpoint, data_preprocessor)
    distillation = ClassifierDistillation(
        student, teacher, temperature, task_weight=task_weight, kd_weight=kd_weight
    )
    return distill_into(student, distillation)


class ClassifierDistillation(Distillation):
    """Adds L_KD to a classifier's losses."""

    def __init__(self, student: nn.Module, teacher: nn.Module, *args: Any, **kwargs: Any) -> None:
        for role, network in (("student", student), ("teacher", teacher)):
            if not is_classifier(network):
                raise ValueError(
                    f"the {role} is a {type(network).__name__}, no classifier of MMPretrain: use "
                    "rarts_mm.DistilledDetector for two detectors"
                )
            _require_plain_logits(role, network)
        ours, theirs = _classes(student), _classes(teacher)
        if None not in (ours, theirs) and ours != theirs:
            raise ValueError(
                f"the teacher has {theirs} classes, the student {ours}: a teacher must have been trained "
                "for the student's classes"
            )
        super().__init__(student, teacher, *args, **kwargs)

    def losses(self, student: nn.Module, own: Callable, inputs: Tensor, samples: list, **more: Any):
        weight = self.weights["kd_weight"]
        if not weight:
            return self.weighted(own(inputs, samples, **more))
        # Before the student's pass, whose activations then need not wait beside the teacher's.
        self.follow(inputs)
        with torch.no_grad():
            targets = _logits(self.teacher(inputs, mode="tensor"), "teacher")
        with recorded(_logits_module(student), "forward") as calls:
            losses = self.weighted(own(inputs, samples, **more))
        if len(calls) != 1:
            raise ValueError(
                f"{type(student).__name__} computed its logits {len(calls)} times for one loss, not "
                "once: such a classifier cannot be distilled into"
            )
        logits = _logits(calls[0].result, "student")
        if logits.shape != targets.shape:
            raise ValueError(
                f"the teacher's logits have shape {tuple(targets.shape)}, the student's "
                f"{tuple(logits.shape)}: a teacher must have been trained for the student's classes"
            )
        return {**losses, "loss_kd": weight * softmax_divergence(logits, targets, self.temperature)}


def _logits_module(network: nn.Module) -> nn.Module:
    """The module whose output are the logits: a head, or the whole of a wrapped library's model."""
    head = getattr(network, "head", None)
    return head if head is not None else network.model


def _require_plain_logits(role: str, network: nn.Module) -> None:
    if getattr(network, "head", None) is None and getattr(network, "model", None) is None:
        raise ValueError(f"the {role}, a {type(network).__name__}, has no head and so no logits")
    module = _logits_module(network)
    kinds = {kind.__name__ for kind in type(module).__mro__}
    reason = None
    if kinds & {"MultiLabelClsHead", "MultiTaskHead", "RegressionHead"}:
        reason = "has no softmax over classes"
    elif "ConformerHead" in kinds:
        reason = "has two sets of logits"
    elif "target" in inspect.signature(module.forward).parameters:
        reason = "gives other logits where it knows the label"
    if reason:
        raise ValueError(
            f"the {role}'s {type(module).__name__} {reason}, so that L_KD has no meaning: use a head "
            "with one set of logits, such as LinearClsHead, or fine-tune without distillation"
        )


def _classes(network: nn.Module) -> int | None:
    module = _logits_module(network)
    return getattr(module, "num_classes", None)


def _logits(output: Any, role: str) -> Tensor:
    logits = getattr(output, "logits", output)
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
        what = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ValueError(
            f"the {role}'s logits must be one tensor (images, classes), got {what}: use a head with one "
            "set of logits, such as LinearClsHead"
        )
    return logits
