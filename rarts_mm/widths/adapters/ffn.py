"""The MLP of MMCV, which Swin and the transformers of the OpenMMLab libraries use."""

import copy

import torch
from torch import nn

from rarts_mm.registry import ADAPTERS

from ..layers.sliced_linear import SlicedLinear
from .base import LinearPairAdapter


@ADAPTERS.register_module()
class FFNAdapter(LinearPairAdapter):
    """One alpha of hidden scores behind the first linear layer: MLP(X) = sigma(X W1 A) W2.

    Slicing is exact when sigma(0) = 0 and sigma acts on each dimension alone (SiDT, section 4.3).
    """

    hosts = ("mmcv.cnn.bricks.transformer.FFN",)
    kind = "mlp"
    writer = "layers.0.0"
    reader = "layers.1"

    def writer_groups(self, host: nn.Module) -> int:
        return 1

    def reader_groups(self, host: nn.Module) -> int:
        return 1

    def unsupported_reason(self, host: nn.Module) -> str | None:
        if host.num_fcs != 2:
            return f"it has {host.num_fcs} linear layers (num_fcs), only two can be scored"
        if reason := super().unsupported_reason(host):
            return reason
        writer, _ = self._pair(host)
        for between in host.layers[0][1:]:
            if reason := not_elementwise(between, writer.out_features):
                return reason
        return None

    def resized(
        self, host: nn.Module, size: int, writer: SlicedLinear, reader: SlicedLinear
    ) -> nn.Module:
        host.feedforward_channels = size
        return super().resized(host, size, writer, reader)


def not_elementwise(module: nn.Module, size: int) -> str | None:
    """Why removing dimensions before ``module`` is not removing them behind it, or None.

    Checked by its values in float64, in evaluation mode: it must map 0 to 0 and give the kept
    dimensions the same values whether or not the others are there.

    Args:
        module: What stands between the two linear layers, an activation or a dropout.
        size: Number of dimensions that pass through it.
    """
    function = copy.deepcopy(module).to("cpu", torch.float64).eval()
    generator = torch.Generator().manual_seed(0)
    x = 3 * torch.randn(16, size, dtype=torch.float64, generator=generator)
    kept = torch.arange(size) % 2 == 0
    name = type(module).__name__
    with torch.no_grad():
        # The clones are for activations that work in place.
        at_zero = function(torch.zeros_like(x))
        if at_zero.abs().max() > 0:
            return (
                f"its {name} maps 0 to {at_zero.flatten()[at_zero.abs().argmax()]:.3g}, "
                "so a removed dimension would leave a constant behind"
            )
        try:
            alone = function(x[:, kept].clone())
        except RuntimeError:
            # Parameters per dimension, as PReLU or a normalisation has them, do not fit half.
            return f"its {name} has parameters per dimension, which slicing would have to cut"
        together = function(x.clone())
        if together.shape != x.shape or not torch.equal(alone, together[:, kept]):
            return f"its {name} mixes the hidden dimensions"
    return None
