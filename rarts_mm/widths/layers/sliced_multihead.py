"""torch's multi-head attention with heads of any width, in a stream of any width."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SlicedMultiheadAttention(nn.Module):
    """Takes the place of ``nn.MultiheadAttention``, whose forward divides the stream's width by the heads.

    Parameters, their names, arguments, masks and dropout are the host's; so is the softmax' scale, that of the
    *original* head dimension. The rows of ``in_proj_weight`` are laid out [3, heads, head_dim].

    Args:
        host: the attention to replace, whose queries, keys and values have one width; its parameters are
            taken over.
    """

    # What torch's TransformerEncoderLayer asks before it computes all of itself in one operation, with the
    # head dimension that it knows.
    _qkv_same_embed_dim = False

    def __init__(self, host: nn.MultiheadAttention) -> None:
        super().__init__()
        self.embed_dim, self.num_heads = host.embed_dim, host.num_heads
        # Of heads that are gone the probabilities that are returned are zero.
        self.averaged = host.num_heads
        self.batch_first, self.dropout = host.batch_first, host.dropout
        self.scale = host.head_dim**-0.5
        self.in_proj_weight = host.in_proj_weight
        self.in_proj_bias = host.in_proj_bias
        self.out_proj = host.out_proj
        self.training = host.training

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As ``nn.MultiheadAttention.forward``, shapes included."""
        del is_causal  # A hint: the mask is given, too.
        batched = query.dim() == 3
        if not batched:
            query, key, value = (each[None] for each in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask[None]
        elif not self.batch_first:
            query, key, value = (each.transpose(0, 1) for each in (query, key, value))
        biases = (
            (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.unflatten(0, (3, -1))
        )
        weights = self.in_proj_weight.unflatten(0, (3, -1))
        # (batch, heads, tokens, head_dim)
        q, k, v = (
            F.linear(x, weight, bias).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )
        mask = self._mask(q, k, attn_mask, key_padding_mask)
        dropout = self.dropout if self.training else 0.0
        probabilities = None
        if need_weights:
            logits = (q * self.scale) @ k.transpose(-2, -1)
            logits = logits if mask is None else logits + mask
            probabilities = F.dropout(logits.softmax(-1), dropout)
            out = probabilities @ v
            if average_attn_weights:
                probabilities = probabilities.sum(1) / self.averaged
        else:
            out = F.scaled_dot_product_attention(q, k, v, mask, dropout, scale=self.scale)
        out = self.out_proj(out.transpose(1, 2).flatten(-2))
        if not batched:
            return out[0], None if probabilities is None else probabilities[0]
        return out if self.batch_first else out.transpose(0, 1), probabilities

    def _mask(
        self, q: Tensor, k: Tensor, attn_mask: Tensor | None, key_padding_mask: Tensor | None
    ) -> Tensor | None:
        """What is added to the logits, broadcast to (batch, heads, queries, keys)."""
        batch, heads, queries, _ = q.shape
        keys = k.shape[-2]
        added = None
        if attn_mask is not None:
            # Of one for all, or one for each image's heads.
            shape = (1, 1, queries, keys) if attn_mask.dim() == 2 else (batch, heads, queries, keys)
            added = _as_added(attn_mask, q).view(shape)
        if key_padding_mask is not None:
            padded = _as_added(key_padding_mask, q).view(batch, 1, 1, keys)
            added = padded if added is None else added + padded
        return added


def _as_added(mask: Tensor, like: Tensor) -> Tensor:
    """A mask as what is added: booleans are True where nothing is to be seen."""
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=like.dtype).masked_fill_(mask, float("-inf"))
    return mask.to(like.dtype)


def free_multihead(host: nn.MultiheadAttention) -> SlicedMultiheadAttention | None:
    """What takes the host's place, or None where it has widths of its own for keys and values, or rows that
    no input writes."""
    if not host._qkv_same_embed_dim or host.bias_k is not None or host.add_zero_attn:
        return None
    return SlicedMultiheadAttention(host)
