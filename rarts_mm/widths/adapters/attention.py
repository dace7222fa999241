"""Attention with a fused qkv whose own forward can run on narrower heads: ViT, timm's Swin."""

from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from rarts_mm.registry import ADAPTERS

from ..layers.sliced_linear import SlicedLinear
from .base import LinearPairAdapter, random_input


class FusedAttentionAdapter(LinearPairAdapter):
    """One alpha of head_dim scores, shared by q, k, v and all heads (SiDT, section 4.3).

    Rows of the fused qkv are laid out [3, heads, head_dim], columns of the output projection
    [heads, head_dim]. These hosts divide by the square root of the head dimension that they find;
    W_q and b_q are multiplied by sqrt(kept / original), so that the softmax stays what it was.
    """

    kind = "attention"
    writer = "qkv"
    reader = "proj"

    def writer_groups(self, host: nn.Module) -> int:
        return 3 * host.num_heads

    def reader_groups(self, host: nn.Module) -> int:
        return host.num_heads

    def rescales(self, host: nn.Module) -> bool:
        """Whether the host's softmax scale follows the head dimension."""
        return True

    def row_factors(self, host: nn.Module, size: int, kept: Tensor) -> Tensor | None:
        if not self.rescales(host):
            return None
        part = torch.ones(3, host.num_heads, len(kept), dtype=torch.float64)
        part[0] = (len(kept) / size) ** 0.5
        return part.flatten()


@ADAPTERS.register_module()
class MultiheadAttentionAdapter(FusedAttentionAdapter):
    """MMPretrain's ``MultiheadAttention``: ViT, DeiT."""

    hosts = ("mmpretrain.models.utils.attention.MultiheadAttention",)
    unsuited: ClassVar[dict[str, str]] = {
        "mmcv.cnn.bricks.transformer.MultiheadAttention": (
            "torch's MultiheadAttention in it fixes the dimensions of a head to embed_dim / num_heads, "
            "so the heads cannot get narrower than the tokens make them"
        )
    }

    def unsupported_reason(self, host: nn.Module) -> str | None:
        if getattr(host, "v_shortcut", False):
            return "its shortcut around the attention needs heads of full width (v_shortcut)"
        return super().unsupported_reason(host)

    def rescales(self, host: nn.Module) -> bool:
        # With qk_scale a number of its own is bound to the product.
        return not isinstance(host.scaled_dot_product_attention, partial)

    def resized(
        self, host: nn.Module, size: int, writer: SlicedLinear, reader: SlicedLinear
    ) -> nn.Module:
        host.head_dims, host.embed_dims = size, size * host.num_heads
        return super().resized(host, size, writer, reader)


@ADAPTERS.register_module()
class TimmAttentionAdapter(FusedAttentionAdapter):
    """timm's ``Attention``: ViT, DeiT."""

    hosts = ("timm.layers.attention.Attention", "timm.models.vision_transformer.Attention")

    def unsupported_reason(self, host: nn.Module) -> str | None:
        for name in ("q_norm", "k_norm", "norm"):
            if not isinstance(getattr(host, name, nn.Identity()), nn.Identity):
                return f"its {name} mixes the dimensions of a head"
        if getattr(host, "gate", None) is not None:
            return "its gate has a linear layer of its own on the heads' dimensions"
        return super().unsupported_reason(host)

    def resized(
        self, host: nn.Module, size: int, writer: SlicedLinear, reader: SlicedLinear
    ) -> nn.Module:
        host.head_dim, host.attn_dim = size, size * host.num_heads
        host.scale = size**-0.5
        return super().resized(host, size, writer, reader)


@ADAPTERS.register_module()
class TimmWindowAttentionAdapter(FusedAttentionAdapter):
    """timm's window attention: Swin."""

    hosts = ("timm.models.swin_transformer.WindowAttention",)
    unsuited: ClassVar[dict[str, str]] = {
        "timm.models.swin_transformer_v2.WindowAttention": (
            "cosine attention divides q and k by their norms over the head's dimensions, so a "
            "score acts on every dimension and cannot be folded into the weights"
        )
    }

    def example(self, host: nn.Module) -> tuple:
        return (random_input(2, host.window_area, host.qkv.in_features),)

    def operations_outside(self, host: nn.Module) -> int:
        """Each token meets the tokens of its window in q k^T and again in attention v."""
        return 2 * host.num_heads * host.window_area

    def resized(
        self, host: nn.Module, size: int, writer: SlicedLinear, reader: SlicedLinear
    ) -> nn.Module:
        host.scale = size**-0.5
        return super().resized(host, size, writer, reader)
