"""The few metrics of an evaluation that tables show."""

from collections.abc import Callable, Mapping

HEADLINES = {
    "coco/bbox_mAP": "box AP",
    "coco/segm_mAP": "mask AP",
    "accuracy/top1": "top-1 %",
    "pascal_voc/mAP": "mAP",
}


def headline(metrics: Mapping[str, float]) -> dict[str, float]:
    """The known headline metrics under their short names; all of them where none is known."""
    known = {name: float(metrics[key]) for key, name in HEADLINES.items() if key in metrics}
    return known or {k: float(v) for k, v in metrics.items()}


def metric_format(name: str) -> Callable[[float], str]:
    """How a metric of :func:`headline` is written in a table."""
    return "{:.2f}".format if name.endswith("%") else "{:.3f}".format
