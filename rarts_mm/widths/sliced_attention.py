"""Window attention whose heads are narrower than embed_dims / heads."""

from mmengine.model import BaseModule
from mmengine.model.weight_init import trunc_normal_
from torch import Tensor, nn

from .sliced_linear import SlicedLinear


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
        self.head_dim = qkv.out_features // (3 * host.num_heads)
        self.scale = host.scale
        self.relative_position_bias_table = host.relative_position_bias_table
        self.register_buffer("relative_position_index", host.relative_position_index)
        self.qkv = qkv
        self.attn_drop = host.attn_drop
        self.proj = proj
        self.proj_drop = host.proj_drop
        self.training = host.training

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
        count, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(count, tokens, 3, self.num_heads, self.head_dim)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)

        # Products and softmax as in the host, not F.scaled_dot_product_attention: with a bias and a
        # mask to broadcast that took 1.1 times as long in training on a CPU (0.6 to 1.2 times in
        # inference), MMEngine's complexity counter overlooks it, and a pruned network timed against
        # its host should differ by its widths alone.
        logits = (query * self.scale) @ key.transpose(-2, -1)
        logits = logits + self._bias(tokens)
        if mask is not None:
            windows = mask.shape[0]
            logits = logits.view(-1, windows, self.num_heads, tokens, tokens)
            logits = (logits + mask[:, None]).view(-1, self.num_heads, tokens, tokens)
        attention = self.attn_drop(logits.softmax(dim=-1))

        out = (attention @ value).transpose(1, 2).reshape(count, tokens, -1)
        return self.proj_drop(self.proj(out))

    def _bias(self, tokens: int) -> Tensor:
        """Relative position bias, (heads, tokens, tokens)."""
        table = self.relative_position_bias_table[self.relative_position_index.view(-1)]
        return table.view(tokens, tokens, -1).permute(2, 0, 1)
