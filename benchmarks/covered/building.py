"""A network with random weights, an example for it, and how it is run."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

# Smaller ones first: the analysis does not depend on the size.
SIZES = (64, 96, 128, 160, 224, 256, 288, 320)


def build(suite: str, name: str) -> tuple[nn.Module, Tensor, Callable[[nn.Module, Any], Any]]:
    """The network in float64 and evaluation mode, a batch of two of the smallest size that it takes."""
    from rarts_mm.widths.exactly import in_float64
    from rarts_mm.widths.flow.uneven import make_uneven

    torch.manual_seed(0)
    network, run = _timm(name) if suite == "timm" else _configured(suite, name)
    make_uneven(network.double().eval())
    for size in SIZES:
        images = torch.randn(2, 3, size, size, dtype=torch.float64)
        try:
            with torch.no_grad(), in_float64():
                run(network, images)
        except (RuntimeError, ValueError, AssertionError):
            continue
        return network, images, run
    raise ValueError(f"{name} runs at none of the sizes {SIZES}")


def _timm(name: str) -> tuple[nn.Module, Callable[[nn.Module, Any], Any]]:
    import timm

    return timm.create_model(name), lambda network, images: network(images)


def _configured(library: str, name: str) -> tuple[nn.Module, Callable[[nn.Module, Any], Any]]:
    """The model of one of a library's own configs."""
    from mmengine import Config, ConfigDict
    from mmengine.registry import init_default_scope

    from rarts_mm.registry import MODELS
    from rarts_mm.widths.flow.detectors import run_whole, with_visible_operators
    from rarts_mm.widths.pruned import without_pretrained

    init_default_scope(library)
    folder = Path(import_module(library).__file__).parent
    cfg = Config.fromfile(folder / ".mim" / "configs" / name)
    model = MODELS.build(ConfigDict(without_pretrained(cfg.model.to_dict())))
    return with_visible_operators(model), run_whole
