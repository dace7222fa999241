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
        kind: What the dimensions are: ``attention`` (those of one head, which all heads share), ``mlp``
            (hidden ones), ``channel`` (of a map, which goes narrower) or ``selection`` (channels of a
            map that stays as wide as it is and is read in part). Tables and scopes go by it; an adapter
            of a new layer may name a kind of its own.
        size: Number of scores.
        parameters_per_score: Parameters that go when one dimension goes, in the layers that write and
            read it; a weight between two units counts for both.
        operations_per_score: Multiply-adds per position (token, pixel of the map that is written) that
            go when one dimension goes.
        multiple: How much wider a layer becomes with each dimension; ``--round-to`` is about the layer.
    """

    name: str
    kind: str
    size: int
    parameters_per_score: int
    operations_per_score: int
    multiple: int = 1

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
