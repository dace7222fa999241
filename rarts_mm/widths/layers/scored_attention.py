"""Window attention whose heads carry scores."""

from torch import Tensor, nn

from .scored_linear import ScoredLinear
from .sliced_attention import SlicedWindowMSA


class ScoredWindowMSA(SlicedWindowMSA):
    """Swin's window attention with scores A on the dimensions of q, k and v (SiDT, thesis section 4.3).

    Of the three products two are enough: (q A)(k A)^T = (q A^2) k^T, and P (v A) = (P v) A. Where
    nobody asks for alpha's gradient and the weight of qkv is smaller than what passes, the scores
    multiply the weight instead.

    A library's ``WindowMSA`` becomes one by :meth:`take`, in place: the same object with the same
    Parameters.
    """

    qkv: ScoredLinear

    @classmethod
    def take(cls, host: nn.Module) -> None:
        """Let a library's or a sliced window attention, whose ``qkv`` has scores, compute in this way."""
        host.__class__ = cls

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """As :class:`SlicedWindowMSA`: (N, tokens, embed_dims) -> (N, tokens, embed_dims)."""
        # Query and output, each (N, tokens, heads * head_dim).
        if self.qkv.folds(2 * x.numel() // x.shape[-1] * self.proj.in_features):
            return super().forward(x, mask)
        alpha = self.qkv.alpha
        out = self._attend(self.qkv(x, scored=False), mask, alpha.square())
        out = out * alpha.to(out.dtype).repeat(self.num_heads)
        return self.proj_drop(self.proj(out))
