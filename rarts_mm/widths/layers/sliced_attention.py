"""Window attention whose heads are narrower than embed_dims / heads."""

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.model.weight_init import trunc_normal_
from torch import Tensor, nn

from .sliced_linear import SlicedLinear


def free_window_attention(host: nn.Module) -> "SlicedWindowMSA":
    """What takes the host's place before anything of it is cut."""
    return SlicedWindowMSA(host, host.qkv, host.proj)


class SlicedWindowMSA(BaseModule):
    """Swin's window attention with heads of any width.

    It takes the place of the ``WindowMSA`` of MMDetection or MMPretrain, whose forward reshapes by
    ``embed_dims`` and so cannot run with fewer dimensions a head. Names of parameters and buffers,
    call signature, dropouts and initialisation are the host's. So is the softmax scale: it stays
    that of the *original* head dimension, since 1 / sqrt(kept) would be another function.

    Args:
        host: The attention to replace; its bias table, index and dropouts are taken over.
        qkv: embed_dims -> 3 * heads * head_dim, rows laid out [3, heads, head_dim].
        proj: heads * head_dim -> embed_dims.
    """

    def __init__(self, host: nn.Module, qkv: SlicedLinear, proj: SlicedLinear) -> None:
        super().__init__(init_cfg=host.init_cfg)
        self.embed_dims = host.embed_dims
        self.window_size = host.window_size
        self.num_heads = host.num_heads
        self.scale = host.scale
        self.relative_position_bias_table = host.relative_position_bias_table
        self.register_buffer("relative_position_index", host.relative_position_index)
        self.qkv = qkv
        self.attn_drop = host.attn_drop
        self.proj = proj
        self.proj_drop = host.proj_drop
        self.training = host.training

    @property
    def head_dim(self) -> int:
        """Dimensions of a head."""
        return self.qkv.out_features // (3 * self.num_heads)

    def init_weights(self) -> None:
        super().init_weights()
        trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attention within windows.

        Args:
            x: (batch * windows, tokens, embed_dims), tokens of one window each.
            mask: (windows, tokens, tokens), added to the logits of shifted windows.

        Returns:
            (batch * windows, tokens, embed_dims).
        """
        return self.proj_drop(self.proj(self._attend(self.qkv(x), mask)))

    def _attend(
        self, qkv: Tensor, mask: Tensor | None, query_scores: Tensor | None = None
    ) -> Tensor:
        """(N, tokens, 3 heads head_dim) -> (N, tokens, heads head_dim); the scores are (head_dim,)."""
        count, tokens, _ = qkv.shape
        qkv = qkv.reshape(count, tokens, 3, self.num_heads, self.head_dim)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)

        bias = self._bias(tokens)
        if mask is not None:
            # (windows, heads, tokens, tokens): once for all images of the batch.
            bias = bias + mask[:, None]
        # Under autocast the products are of lower precision: scores must not promote what follows.
        scores = None if query_scores is None else query_scores.to(query.dtype)
        if self._fused(query):
            query = query if scores is None else query * scores
            out = self._fused_attention(query, key, value, bias)
        else:
            factor = self.scale if scores is None else self.scale * scores
            logits = (query * factor) @ key.transpose(-2, -1)
            logits = (logits.view(-1, *bias.shape) + bias).view_as(logits)
            out = self.attn_drop(logits.softmax(dim=-1)) @ value

        return out.transpose(1, 2).reshape(count, tokens, -1)

    def _fused(self, query: Tensor) -> bool:
        """Whether torch's fused attention is expected to be the faster way.

        In inference on one CPU thread it takes 0.4 to 0.9 times as long as the host's operations
        between qkv and proj, on two threads 0.7 to 1.4 times: it makes small products, of 32 rows of
        one head, one by one. In training it takes 1.1 times. See docs/latency.md. The kernels of
        GPUs take heads of a multiple of 8 dimensions.
        """
        if torch.is_grad_enabled() or self.training:
            return False
        # A trace would keep what holds for this machine, and MMEngine's complexity counter, which
        # traces, overlooks fused attention.
        if torch.jit.is_tracing() or torch.compiler.is_compiling():
            return False
        if query.device.type == "cpu":
            return torch.get_num_threads() == 1
        return self.head_dim % 8 == 0

    def _fused_attention(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        """softmax(scale q k^T + bias) v by torch's fused kernel, shapes as :meth:`forward` has them."""
        # Of three dimensions torch would take its unfused way.
        each = bias.repeat(len(query) // len(bias), 1, 1, 1) if bias.ndim == 4 else bias[None]
        return F.scaled_dot_product_attention(
            query, key, value, each.to(query.dtype), scale=self.scale
        )

    def _bias(self, tokens: int) -> Tensor:
        """Relative position bias, (heads, tokens, tokens)."""
        # A third of the time of table[index], and contiguous: too little to be worth keeping.
        index = self.relative_position_index.view(-1)
        return self.relative_position_bias_table.t().index_select(1, index).view(-1, tokens, tokens)
