"""Made-up images, as a model's own data pipeline would hand them over."""

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor


def detection_sample(height: int, width: int) -> BaseDataElement:
    """An MMDetection data sample of an image that was not resized."""
    from mmdet.structures import DetDataSample

    return DetDataSample(
        metainfo={
            "img_id": 0,
            "img_shape": (height, width),
            "ori_shape": (height, width),
            "pad_shape": (height, width),
            "scale_factor": (1.0, 1.0),
        }
    )


def synthetic_image(height: int, width: int, channels: int = 3) -> Tensor:
    """Blurred noise, (channels, height, width) uint8, the same every time."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, channels, height // 16 + 2, width // 16 + 2, generator=generator)
    image = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return (255 * image[0]).to(torch.uint8)
