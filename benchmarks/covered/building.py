"""A network with random weights, an example for it, and how it is run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

# Smaller ones first: the analysis does not depend on the size.
SIZES = (64, 96, 128, 160, 224, 256, 288, 320)


def build(suite: str, name: str) -> tuple[nn.Module, Tensor, Callable[[nn.Module, Any], Any]]:
    """The network in float64 and evaluation mode, a batch of two of the smallest size that it takes."""
    from rarts_mm.widths.flow.uneven import make_uneven

    torch.manual_seed(0)
    network, run = _timm(name) if suite == "timm" else _detector(name)
    make_uneven(network.double().eval())
    for size in SIZES:
        images = torch.randn(2, 3, size, size, dtype=torch.float64)
        try:
            with torch.no_grad():
                run(network, images)
        except (RuntimeError, ValueError, AssertionError):
            continue
        return network, images, run
    raise ValueError(f"{name} runs at none of the sizes {SIZES}")


def _timm(name: str) -> tuple[nn.Module, Callable[[nn.Module, Any], Any]]:
    import timm

    return timm.create_model(name), lambda network, images: network(images)


def _detector(name: str) -> tuple[nn.Module, Callable[[nn.Module, Any], Any]]:
    import mmdet
    from mmengine import Config, ConfigDict
    from mmengine.registry import init_default_scope

    from rarts_mm.registry import MODELS
    from rarts_mm.widths.pruned import without_pretrained

    init_default_scope("mmdet")
    cfg = Config.fromfile(Path(mmdet.__file__).parent / ".mim" / "configs" / name)
    model = MODELS.build(ConfigDict(without_pretrained(cfg.model.to_dict())))
    for module in model.modules():
        if type(module).__name__ == "RoIAlign":
            # Torch's own, which a dispatcher sees.
            module.use_torchvision = True
    return model, run_detector


def run_detector(model: nn.Module, images: Tensor) -> list:
    """All that a detector computes from images; a two-stage one's heads on fixed boxes."""
    from rarts_mm.analysis.samples import detection_sample

    height, width = images.shape[-2:]
    head = getattr(model, "roi_head", None)
    if head is None:
        samples = [detection_sample(height, width) for _ in images]
        return model(images, samples, mode="tensor")
    features = model.extract_feat(images)
    out = [model.rpn_head(features)] if model.with_rpn else []
    stages = [(i,) for i in range(head.num_stages)] if hasattr(head, "num_stages") else [()]
    boxes = _boxes(len(images), height, width).to(images)
    for stage in stages:
        if head.with_bbox:
            out.append(list(head._bbox_forward(*stage, features, boxes).values()))
        if head.with_mask:
            out.append(list(head._mask_forward(*stage, features, boxes).values()))
    return out


def _boxes(batch: int, height: int, width: int, number: int = 12) -> Tensor:
    """(batch * number, 5): image, x1, y1, x2, y2; of all sizes, so that every level is read."""
    generator = torch.Generator().manual_seed(0)
    corner = 0.5 * torch.rand(batch * number, 2, generator=generator)
    extent = (0.05 + 0.45 * torch.rand(batch * number, 2, generator=generator)).square() + 0.02
    scale = torch.tensor([width, height])
    image = torch.arange(batch).repeat_interleave(number)[:, None].float()
    return torch.cat([image, corner * scale, (corner + extent) * scale], 1)
