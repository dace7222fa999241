"""What detectors predict in the end: the same objects, in the same order."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import torch
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import Tensor, nn

from rarts_mm.samples import detection_sample

from .exactly import in_float64
from .running import MISFITS, ProofError, relative_difference

# Of boxes and scores, behind exponentials of what was compared before.
TOLERANCE = 1e-8
_HEADS = ("bbox_head", "roi_head", "mask_head", "panoptic_head")


def compare_predictions(reference: nn.Module, sliced: nn.Module, images: Tensor) -> int | None:
    """Compare the objects that two detectors predict in images.

    Args:
        reference: The masked network, in float64 and evaluation mode.
        sliced: The sliced one.
        images: As they go into the network.

    Returns:
        The number of objects; None where the model is no detector, or does not predict in float64.

    Raises:
        ProofError: They differ in number, order, class, place or score.
    """
    if not isinstance(reference, BaseModel) or not any(hasattr(reference, n) for n in _HEADS):
        return None
    images = images.to(torch.float64)
    with torch.no_grad(), in_float64(), _exact_suppression():
        try:
            wanted = _predict(reference, images)
        # The libraries' code behind the heads may want float32, or more of a sample than a made-up one has.
        except MISFITS:
            return None
        found = _predict(sliced, images)
    for a, b in zip(wanted, found, strict=True):
        _check(a, b)
    return sum(len(each) for each in wanted)


def _predict(network: nn.Module, images: Tensor) -> list[InstanceData]:
    samples = [detection_sample(*images.shape[-2:]) for _ in images]
    with _without_masks(network):
        # Predicting may work in place.
        return [each.pred_instances for each in network(images.clone(), samples, mode="predict")]


def _check(wanted: InstanceData, found: InstanceData) -> None:
    if len(wanted) != len(found):
        raise ProofError(
            f"The masked detector predicts {len(wanted)} objects, the sliced one {len(found)}. It must not be "
            "used; please report the layers it has."
        )
    for key, value in wanted.items():
        other = found[key]
        if isinstance(value, Tensor) and value.is_floating_point():
            same = value.numel() == 0 or relative_difference(value, other) <= TOLERANCE
        elif isinstance(value, Tensor):
            same = torch.equal(value, other)
        else:
            continue
        if not same:
            raise ProofError(
                f"The {key} of the objects that the sliced detector predicts differ from the masked one's. It "
                "must not be used; please report the layers it has."
            )


@contextmanager
def _without_masks(network: nn.Module) -> Iterator[None]:
    """Masks are pasted into images in float32; what the mask head puts out is compared elsewhere."""
    modules = getattr(getattr(network, "roi_head", None), "_modules", {})
    head = modules.pop("mask_head", None)
    try:
        yield
    finally:
        if head is not None:
            modules["mask_head"] = head


def suppress(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    offset: int = 0,
    score_threshold: float = 0,
    max_num: int = -1,
) -> tuple[Tensor, Tensor]:
    """Non-maximum suppression as ``mmcv.ops.nms``, in any precision, by torchvision's.

    Returns:
        (kept, 5) boxes and scores, and (kept,) indices.
    """
    from torchvision.ops import nms

    left = (scores > score_threshold).nonzero().flatten() if score_threshold > 0 else None
    left = torch.arange(len(scores), device=scores.device) if left is None else left
    # With an offset a box ends behind its last pixel.
    wide = boxes + boxes.new_tensor([0, 0, offset, offset])
    kept = left[nms(wide[left], scores[left], iou_threshold)]
    kept = kept[:max_num] if max_num > 0 else kept
    return torch.cat([boxes[kept], scores[kept, None]], 1), kept


@contextmanager
def _exact_suppression() -> Iterator[None]:
    """Let mmcv's ``batched_nms`` use torchvision's suppression: mmcv's own takes float32 alone."""
    # The package has the function under the module's name; it looks for ``nms`` among its own names.
    module = import_module("mmcv.ops.nms")
    own, module.nms = module.nms, suppress
    try:
        yield
    finally:
        module.nms = own
