"""A network that has been cut."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn

from rarts_mm.widths.budgets import WidthCost
from rarts_mm.widths.flow import Groups
from rarts_mm.widths.flow.record import Cut
from rarts_mm.widths.proof import Proof

from .files import write


@dataclass(frozen=True)
class Smaller:
    """A network that has been cut.

    Attributes:
        model: the smaller network, a copy of the given one with fewer channels.
        groups: what could be cut, and what could not and why.
        kept: group -> the channels that stayed.
        proof: how far the smaller network is from the given one with the removed channels at zero.
        parameters, flops: before and after; multiply-adds of the example.
    """

    model: nn.Module
    groups: Groups
    kept: Mapping[str, Tensor]
    proof: Proof
    parameters: tuple[int, int]
    flops: tuple[int, int]
    cut: Cut = field(repr=False)

    @classmethod
    def of(
        cls,
        before: nn.Module,
        after: nn.Module,
        groups: Groups,
        kept: Mapping[str, Tensor],
        proof: Proof,
        flops: WidthCost,
        cut: Cut,
    ) -> "Smaller":
        """From the networks before and after, with what they cost."""
        parameters = tuple(sum(p.numel() for p in each.parameters()) for each in (before, after))
        left = flops({name: len(index) for name, index in kept.items()})
        return cls(after, groups, kept, proof, parameters, (flops.whole, left), cut)

    @property
    def widths(self) -> dict[str, int]:
        """Group -> how many of its channels stayed."""
        return {name: len(index) for name, index in self.kept.items()}

    @property
    def error(self) -> float:
        """The proof's max |difference| / max |output|, in float64."""
        return self.proof.error

    def save(self, folder: str | Path) -> None:
        """Write ``widths.json`` and ``weights.pth``, from which :func:`rarts_mm.load` makes it again.

        The model may have been trained since.
        """
        write(self.model, self.cut, folder)

    def __str__(self) -> str:
        removed = sum(self.groups.sizes[n] - len(kept) for n, kept in self.kept.items())
        total = sum(self.groups.sizes.values())
        shares = [after / max(before, 1) for before, after in (self.parameters, self.flops)]
        return (
            f"{removed} of {total} channels removed: {shares[0]:.1%} of {self.parameters[0]:,} parameters "
            f"and {shares[1]:.1%} of {self.flops[0]:,} FLOPs remain; cut = masked to {self.error:.0e}"
            + self._not_run()
        )

    def _not_run(self) -> str:
        number = len(self.groups.not_run)
        if not number:
            return ""
        return (
            f"\n{number} parameters were not run by the example ({self.groups.not_run[0]}, ...): what uses "
            "them may not fit the smaller maps"
        )
