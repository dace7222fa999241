"""One adapter per kind of layer that can carry scores."""

from .base import LinearPairAdapter, WidthAdapter
from .ffn import FFNAdapter
from .window_attention import WindowAttentionAdapter

__all__ = [
    "FFNAdapter",
    "LinearPairAdapter",
    "WidthAdapter",
    "WindowAttentionAdapter",
]
