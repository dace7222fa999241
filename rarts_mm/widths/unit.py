"""What the width search scores: units."""

from dataclasses import dataclass
from typing import NamedTuple

# The kind of units that choose channels of a map which stays as wide as it is.
SELECTION = "selection"


@dataclass(frozen=True)
class Unit:
    """A group of dimensions that one score vector alpha ranks.

    Attributes:
        name: Path of the layer that owns the dimensions, in the network that was searched, for
            example ``backbone.stages.0.blocks.1.ffn``. Alphas, kept indices and widths are keyed by
            it.
        kind: ``attention`` (the dimensions of one head) or ``mlp`` (hidden dimensions).
        size: Number of scores: head_dim, or the hidden width.
        heads: Number of heads that share each score; 1 for an MLP.
        embed_dims: Width of the tokens that enter and leave the layer.
        host: Qualified name of the layer's class.
        parameters_per_score: Parameters that go when one dimension goes: heads (4 d + 3) in an
            attention and 2 d + 1 in an MLP, d = embed_dims, with biases.
        operations_per_score: Multiply-adds per token that go when one dimension goes:
            heads (4 d + 2 M^2) in an attention over M x M windows, 2 d in an MLP.
    """

    name: str
    kind: str
    size: int
    heads: int
    embed_dims: int
    host: str
    parameters_per_score: int
    operations_per_score: int

    @property
    def stage(self) -> str:
        """The name up to its first numbered part (``backbone.stages.0``): tables group by it."""
        parts = self.name.split(".")
        for end, part in enumerate(parts, start=1):
            if part[-1:].isdigit():
                return ".".join(parts[:end])
        return self.name


class LeftOut(NamedTuple):
    """A layer of a kind that could carry scores, and why this one does not."""

    name: str
    type: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name or '(the network itself)'} ({self.type}): {self.reason}"
