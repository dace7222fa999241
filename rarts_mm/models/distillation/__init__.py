"""Knowledge distillation: a student that learns its teacher's outputs beside the labels."""

from .classifier import ClassifierDistillation, DistilledClassifier
from .detector import DetectorDistillation, DistilledDetector
from .distilled import Distillation, Distilled
from .divergences import binary_divergence, softmax_divergence
from .kinds import distilled_type

__all__ = [
    "ClassifierDistillation",
    "DetectorDistillation",
    "Distillation",
    "Distilled",
    "DistilledClassifier",
    "DistilledDetector",
    "binary_divergence",
    "distilled_type",
    "softmax_divergence",
]
