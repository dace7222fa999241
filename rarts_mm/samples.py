"""Made-up images, as a model's own data pipeline would hand them over."""

import torch
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn


def detection_sample(height: int, width: int) -> BaseDataElement:
    """An MMDetection data sample of an image that was not resized."""
    from mmdet.structures import DetDataSample

    return DetDataSample(
        metainfo={
            "img_id": 0,
            "img_shape": (height, width),
            "ori_shape": (height, width),
            "pad_shape": (height, width),
            "batch_input_shape": (height, width),
            "scale_factor": (1.0, 1.0),
        }
    )


def synthetic_image(height: int, width: int, channels: int = 3) -> Tensor:
    """Blurred noise, (channels, height, width) uint8, the same every time."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, channels, height // 16 + 2, width // 16 + 2, generator=generator)
    image = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return (255 * image[0]).to(torch.uint8)


def image_channels(model: nn.Module) -> int:
    """Channels of the images that a model takes: 3, or 1 where it reads grey ones."""
    means = getattr(getattr(model, "data_preprocessor", None), "mean", None)
    if means is not None:
        return means.numel()
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    # Some rearrange pixels into channels before their first convolution.
    if first is None or (isinstance(model, BaseModel) and first.in_channels > 4):
        return 3
    return first.in_channels
