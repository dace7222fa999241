"""Which class logits of two detectors belong together."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from .divergences import binary_divergence, softmax_divergence
from .recording import Call, recorded

_REMEDY = "set cls_weight=0 to distil the features alone (feature_weight)"


def class_logits(student: nn.Module, teacher: nn.Module) -> "ClassLogits":
    """How to compare two detectors' class logits.

    Raises:
        ValueError: they cannot be compared; the message says why.
    """
    two_stage = [getattr(m, "roi_head", None) is not None for m in (student, teacher)]
    if two_stage[0] != two_stage[1]:
        names = [type(m).__name__ for m in (student, teacher)]
        raise ValueError(
            f"the student {names[0]} and the teacher {names[1]} are not both two-stage or both one-stage "
            f"detectors, so that no logits of theirs belong together: {_REMEDY}"
        )
    return (RoILogits if two_stage[0] else DenseLogits)(student, teacher)


class ClassLogits(ABC):
    """Pairs of logits in one step of training; see the subclasses."""

    @abstractmethod
    def recorded(self, student: nn.Module) -> AbstractContextManager[list[Call]]:
        """Record the student's logits while the block runs."""

    @abstractmethod
    def losses(
        self,
        student: nn.Module,
        calls: Sequence[Call],
        features: Sequence[Tensor],
        temperature: float,
    ) -> dict[str, Tensor]:
        """Divergences by the loss's name.

        Args:
            student: where the calls are from.
            calls: what was recorded.
            features: the teacher's, a tensor (N, channels, height, width) per level.
            temperature: T.
        """


class RoILogits(ClassLogits):
    """Two stages, cascades included: the teacher's head on the regions that the student sampled.

    The teacher pools them from its own features. In a cascade each stage has a loss, with the
    student's ``stage_loss_weights``, on the regions that the student's stage before it refined.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        for role, model in (("student", student), ("teacher", teacher)):
            _require_readable(role, model)
        ours, theirs = (_stages(m.roi_head) for m in (student, teacher))
        if len(ours) != len(theirs):
            raise ValueError(
                f"the teacher's {type(teacher.roi_head).__name__} has {len(theirs)} stages, the "
                f"student's {type(student.roi_head).__name__} {len(ours)}: {_REMEDY}"
            )
        for own, other in zip(ours, theirs, strict=True):
            _require_same(own, other, "num_classes", "classes")
            _require_same(own.loss_cls, other.loss_cls, "use_sigmoid", "use_sigmoid")
        self.teacher = teacher.roi_head
        self.sigmoid = [bool(getattr(head.loss_cls, "use_sigmoid", False)) for head in ours]

    def recorded(self, student: nn.Module) -> AbstractContextManager[list[Call]]:
        return recorded(student.roi_head, "_bbox_forward")

    def losses(self, student, calls, features, temperature):
        signature = inspect.signature(student.roi_head._bbox_forward)
        losses = {}
        for call in calls:
            arguments = signature.bind(*call.args, **call.kwargs).arguments
            with torch.no_grad():
                answer = self.teacher._bbox_forward(**{**arguments, "x": features})
            stage = arguments.get("stage")
            divergence = _divergence(self.sigmoid[stage or 0])
            logits = [_tensor(result["cls_score"]) for result in (call.result, answer)]
            loss = divergence(*logits, temperature)
            if stage is None:
                losses["loss_kd_cls"] = loss
            else:
                losses[f"s{stage}.loss_kd_cls"] = loss * student.roi_head.stage_loss_weights[stage]
        return losses


class DenseLogits(ClassLogits):
    """One stage: the class maps of all levels, place by place and anchor by anchor."""

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        for role, model in (("student", student), ("teacher", teacher)):
            if reason := _why_not_dense(getattr(model, "bbox_head", None)):
                raise ValueError(
                    f"the {role}'s class logits cannot be matched: {reason}; {_REMEDY}"
                )
        ours, theirs = student.bbox_head, teacher.bbox_head
        _require_same(ours, theirs, "num_classes", "classes")
        _require_same(ours, theirs, "use_sigmoid_cls", "use_sigmoid")
        _require_same(ours, theirs, "num_base_priors", "anchors a place")
        self.teacher = theirs

    def recorded(self, student: nn.Module) -> AbstractContextManager[list[Call]]:
        return recorded(student.bbox_head, "forward")

    def losses(self, student, calls, features, temperature):
        head = student.bbox_head
        with torch.no_grad():
            answer = self.teacher(features)
        if len(calls) != 1:
            raise ValueError(
                f"{type(head).__name__} computed its logits {len(calls)} times for one loss, not once: "
                f"{_REMEDY}"
            )
        maps = [calls[0].result[0], answer[0]]
        shapes = [[tuple(level.shape) for level in levels] for levels in maps]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"the teacher's class maps have the shapes {shapes[1]}, the student's {shapes[0]}: "
                f"{_REMEDY}"
            )
        logits = [_samples(levels, head.cls_out_channels) for levels in maps]
        return {"loss_kd_cls": _divergence(head.use_sigmoid_cls)(*logits, temperature)}


def _divergence(sigmoid: bool):
    return binary_divergence if sigmoid else softmax_divergence


def _samples(levels: Sequence[Tensor], classes: int) -> Tensor:
    """Maps (N, anchors * classes, height, width) of all levels as (predictions, classes)."""
    return torch.cat([level.permute(0, 2, 3, 1).reshape(-1, classes) for level in levels])


def _stages(roi_head: nn.Module) -> list[nn.Module]:
    heads = roi_head.bbox_head
    return list(heads) if isinstance(heads, nn.ModuleList) else [heads]


def _require_readable(role: str, model: nn.Module) -> None:
    roi_head, reason = model.roi_head, None
    forward = getattr(roi_head, "_bbox_forward", None)
    names = list(inspect.signature(forward).parameters) if forward else None
    if names not in (["x", "rois"], ["stage", "x", "rois"]):
        reason = "scores regions by more than the features and the regions themselves"
    elif type(roi_head).__name__ == "MultiInstanceRoIHead":
        reason = "gives several sets of scores a region"
    elif any(getattr(head, "custom_cls_channels", False) for head in _stages(roi_head)):
        reason = "has a class loss with logits of its own kind"
    if reason:
        raise ValueError(
            f"the {role}'s class logits cannot be matched: {type(roi_head).__name__} {reason}; {_REMEDY}"
        )


def _why_not_dense(head: nn.Module | None) -> str | None:
    from mmdet.models import dense_heads as known

    if head is None:
        return "the detector has no bbox_head"
    name = type(head).__name__
    if not isinstance(
        head, known.AnchorHead | known.AnchorFreeHead | known.YOLOXHead
    ) or not hasattr(head, "cls_out_channels"):
        return f"{name} has no map of classes a level (queries of a DETR have no fixed order)"
    if isinstance(head, known.TOODHead):
        return f"{name} gives probabilities, not logits"
    if isinstance(head, known.GuidedAnchorHead):
        return f"{name} leaves places out when it is not in training"
    if len(inspect.signature(head.forward).parameters) != 1:
        return f"{name} reads more than the features"
    return None


def _require_same(ours: nn.Module, theirs: nn.Module, name: str, what: str) -> None:
    own, other = getattr(ours, name, None), getattr(theirs, name, None)
    if own != other:
        raise ValueError(
            f"the teacher's {type(theirs).__name__} has {what} {other}, the student's "
            f"{type(ours).__name__} {own}: a teacher must have been trained for the student's classes, "
            f"with logits of the same kind; or {_REMEDY}"
        )


def _tensor(score: object) -> Tensor:
    if not isinstance(score, torch.Tensor):
        raise ValueError(
            f"the head's class scores are a {type(score).__name__}, not one tensor: {_REMEDY}"
        )
    return score
