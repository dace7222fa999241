"""Which wrapper distils into which model."""

from torch import nn


def distilled_type(network: nn.Module) -> str:
    """The registered type that distils into this network.

    Raises:
        ValueError: neither a classifier of MMPretrain nor a detector of MMDetection.
    """
    if is_classifier(network):
        return "rarts_mm.DistilledClassifier"
    if is_detector(network):
        return "rarts_mm.DistilledDetector"
    raise ValueError(
        f"{type(network).__name__} is neither a classifier of MMPretrain nor a detector of MMDetection: "
        "nothing can be distilled into it, or from it"
    )


def is_classifier(network: nn.Module) -> bool:
    """Whether it is a classifier of MMPretrain."""
    # Imported here, as importing the libraries takes seconds.
    from mmpretrain.models import BaseClassifier

    return isinstance(network, BaseClassifier)


def is_detector(network: nn.Module) -> bool:
    """Whether it is a detector of MMDetection."""
    from mmdet.models import BaseDetector

    return isinstance(network, BaseDetector)
