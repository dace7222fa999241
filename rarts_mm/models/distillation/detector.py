"""Distillation of detectors."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from rarts_mm.registry import MODELS

from .class_logits import class_logits
from .distilled import Distillation, build_pair, distill_into
from .features import feature_distance, require_same_features
from .kinds import is_detector
from .recording import recorded


@MODELS.register_module()
def DistilledDetector(
    student: Mapping[str, Any],
    teacher: Mapping[str, Any],
    teacher_checkpoint: str,
    temperature: float = 4.0,
    task_weight: float = 1.0,
    cls_weight: float = 1.0,
    feature_weight: float = 1.0,
    data_preprocessor: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Build a detector of MMDetection that also learns a teacher's class logits and features.

    .. code-block:: python

        model = dict(
            type='rarts_mm.DistilledDetector',
            student=dict(type='rarts_mm.PrunedModel', ...),
            teacher=dict(type='CascadeRCNN', ...),
            teacher_checkpoint='baseline.pth')

    The losses are the student's own, and

    - ``loss_kd_cls`` (``s0.loss_kd_cls`` ... in a cascade), L_KD of the thesis, section 4.2.1: the KL
      divergence of the class probabilities at temperature T. Two stages: of the regions that the
      student sampled in this step, averaged over them. One stage: of all places and anchors of all
      levels, averaged over them, with binary divergences summed over the classes for sigmoids.
    - ``loss_kd_feat``: mean squared difference of the features that the heads read (the neck's
      outputs), averaged over the levels.

    Args:
        student: config of the detector that is trained.
        teacher: config of the detector that it learns from.
        teacher_checkpoint: the teacher's weights, a file or a URL.
        temperature: T.
        task_weight: factor of the student's own losses.
        cls_weight: factor of ``loss_kd_cls``; 0 leaves it out.
        feature_weight: factor of ``loss_kd_feat``; 0 leaves it out.
        data_preprocessor: of whichever of the two has none.

    Returns:
        The student itself, as of :func:`~rarts_mm.models.distillation.DistilledClassifier`.

    Raises:
        ValueError: the two do not fit, or the checkpoint does not fit the teacher.
    """
    student, teacher = build_pair(student, teacher, teacher_checkpoint, data_preprocessor)
    weights = dict(task_weight=task_weight, cls_weight=cls_weight, feature_weight=feature_weight)
    return distill_into(student, DetectorDistillation(student, teacher, temperature, **weights))


class DetectorDistillation(Distillation):
    """Adds divergences of logits and distances of features to a detector's losses."""

    def __init__(self, student: nn.Module, teacher: nn.Module, *args: Any, **weights: Any) -> None:
        for role, network in (("student", student), ("teacher", teacher)):
            if not is_detector(network):
                raise ValueError(
                    f"the {role} is a {type(network).__name__}, no detector of MMDetection: use "
                    "rarts_mm.DistilledClassifier for two classifiers"
                )
        super().__init__(student, teacher, *args, **weights)
        self.logits = class_logits(student, teacher) if self.weights["cls_weight"] else None
        if self.weights["feature_weight"]:
            require_same_features(student, teacher)

    def losses(self, student: nn.Module, own: Callable, inputs: Tensor, samples: list, **more: Any):
        of_logits, of_features = self.weights["cls_weight"], self.weights["feature_weight"]
        if not (of_logits or of_features):
            return self.weighted(own(inputs, samples, **more))
        # Before the student's pass, whose activations then need not wait beside the teacher's.
        self.follow(inputs)
        with torch.no_grad():
            targets = self.teacher.extract_feat(inputs)
        recorded_logits = self.logits.recorded(student) if of_logits else nullcontext([])
        with recorded(student, "extract_feat") as features, recorded_logits as logits:
            losses = self.weighted(own(inputs, samples, **more))
        if of_logits:
            divergences = self.logits.losses(student, logits, targets, self.temperature)
            losses |= {name: of_logits * value for name, value in divergences.items()}
        if of_features:
            if len(features) != 1:
                raise ValueError(
                    f"{type(student).__name__} computed its features {len(features)} times for one "
                    "loss, not once, so that they cannot be matched: set feature_weight=0"
                )
            losses["loss_kd_feat"] = of_features * feature_distance(features[0].result, targets)
        return losses
