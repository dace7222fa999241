"""The few metrics of an evaluation that tables show."""

from collections.abc import Callable, Mapping

HEADLINES = {
    "coco/bbox_mAP": "box AP",
    "coco/segm_mAP": "mask AP",
    "accuracy/top1": "top-1 %",
    "pascal_voc/mAP": "mAP",
}
# Evaluators that give shares of 1, by the first part of their metrics' names; others, such as accuracy/top1
# and coco_panoptic/PQ, are per cents already.
_SHARES = ("coco", "pascal_voc", "lvis", "openimages", "cityscapes", "crowd_human", "youtube_vis")


def points_per_unit(metric: str) -> float:
    """What 1 of a metric, under its evaluator's name, is in percentage points."""
    return 100.0 if metric.partition("/")[0] in _SHARES else 1.0


def headline(metrics: Mapping[str, float]) -> dict[str, float]:
    """The known headline metrics under their short names; all of them where none is known."""
    known = {name: float(metrics[key]) for key, name in HEADLINES.items() if key in metrics}
    return known or {k: float(v) for k, v in metrics.items()}


def metric_format(name: str) -> Callable[[float], str]:
    """How a metric of :func:`headline` is written in a table."""
    return "{:.2f}".format if name.endswith("%") else "{:.3f}".format
