"""What of an OpenMMLab model is run to see how its channels flow."""

from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from rarts_mm.samples import detection_sample

from ..running import Forward, random_images

BOXES = 12


def example_of(network: nn.Module) -> tuple[Tensor, Forward]:
    """Images that a network accepts, as small as that goes, and how all of it is run on them.

    Raises:
        ProofError: it accepts none of the sizes that were tried.
    """
    images, *_ = random_images(network, None, run_whole)
    return images, run_whole


def run_whole(network: nn.Module, images: Tensor) -> Any:
    """All that a model computes from images, a classifier's, a detector's, or any other's.

    A two-stage detector's heads see features of the pyramid at fixed boxes, so that backbone, neck and all
    heads are in one run, whatever the first stage proposes.
    """
    head = getattr(network, "roi_head", None)
    if not isinstance(network, BaseModel):
        return network(images)
    if head is None:
        samples = None
        if hasattr(network, "bbox_head") or hasattr(network, "mask_head"):
            height, width = images.shape[-2:]
            samples = [detection_sample(height, width) for _ in images]
        return network(images, samples, mode="tensor")
    features = network.extract_feat(images)
    out = [network.rpn_head(features)] if network.with_rpn else []
    # A cascade has a list of heads and says which one is to run.
    stages = [(i,) for i in range(head.num_stages)] if hasattr(head, "num_stages") else [()]
    boxes = _boxes(len(images), *images.shape[-2:]).to(images)
    for stage in stages:
        if head.with_bbox:
            out += _predicted(head._bbox_forward(*stage, features, boxes))
        if head.with_mask:
            out += _predicted(head._mask_forward(*stage, features, boxes))
    return out


def _predicted(results: dict[str, Any]) -> list[Any]:
    """What a head predicts, without the features that it read."""
    return [value for name, value in results.items() if not name.endswith("_feats")]


def _boxes(batch: int, height: int, width: int) -> Tensor:
    """(batch * BOXES, 5): image, x1, y1, x2, y2.

    From 8 pixels to a thousand, whatever the image's size, so that every level of a pyramid has some: what
    stands in for a level without any would be run in its place.
    """
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([width, height])
    corner = 0.5 * torch.rand(batch * BOXES, 2, generator=generator) * scale
    sides = torch.logspace(3, 10, BOXES, base=2).repeat(batch)[:, None]
    # Not squares.
    extent = sides * (0.8 + 0.4 * torch.rand(batch * BOXES, 2, generator=generator))
    image = torch.arange(batch).repeat_interleave(BOXES)[:, None].float()
    return torch.cat([image, corner, corner + extent], 1)


def with_visible_operators(network: nn.Module) -> nn.Module:
    """Let a network use torchvision's RoIAlign in place of mmcv's, which no dispatcher sees, in place.

    The two have the same arguments and compute the same.
    """
    for module in network.modules():
        if hasattr(module, "use_torchvision"):
            module.use_torchvision = True
    return network
