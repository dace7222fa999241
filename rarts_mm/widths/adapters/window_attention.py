"""Swin's window attention, of MMDetection and of MMPretrain."""

from typing import ClassVar

from torch import Tensor, nn

from rarts_mm.registry import ADAPTERS

from ..layers.scored_attention import ScoredWindowMSA
from ..layers.sliced_attention import SlicedWindowMSA
from ..layers.sliced_linear import SlicedLinear
from .base import LinearPairAdapter, random_input


@ADAPTERS.register_module()
class WindowAttentionAdapter(LinearPairAdapter):
    """One alpha of head_dim scores, shared by q, k, v, all heads and windows (SiDT, section 4.3).

    Rows of the fused qkv are laid out [3, heads, head_dim], columns of the output projection
    [heads, head_dim]. The bias table and the softmax scale stay as they are.
    """

    hosts = (
        "mmdet.models.backbones.swin.WindowMSA",
        "mmpretrain.models.utils.attention.WindowMSA",
        "rarts_mm.widths.layers.sliced_attention.SlicedWindowMSA",
        "rarts_mm.widths.layers.scored_attention.ScoredWindowMSA",
    )
    unsuited: ClassVar[dict[str, str]] = {
        "mmpretrain.models.utils.attention.WindowMSAV2": (
            "cosine attention divides q and k by their norms over the head's dimensions, so a "
            "score acts on every dimension and cannot be folded into the weights"
        )
    }
    kind = "attention"
    writer = "qkv"
    reader = "proj"

    def insert(self, host: nn.Module, alpha: Tensor) -> None:
        super().insert(host, alpha)
        ScoredWindowMSA.take(host)

    def writer_groups(self, host: nn.Module) -> int:
        return 3 * host.num_heads

    def reader_groups(self, host: nn.Module) -> int:
        return host.num_heads

    def example(self, host: nn.Module) -> tuple:
        height, width = host.window_size
        return (random_input(2, height * width, host.qkv.in_features),)

    def operations_outside(self, host: nn.Module) -> int:
        """Each token meets the M^2 tokens of its window in q k^T and again in attention v."""
        height, width = host.window_size
        return 2 * host.num_heads * height * width

    def resized(
        self, host: nn.Module, size: int, writer: SlicedLinear, reader: SlicedLinear
    ) -> nn.Module:
        return SlicedWindowMSA(host, writer, reader)
