"""What one pruning keeps, and what that costs."""

import math
from dataclasses import asdict, dataclass, field

from torch import Tensor, nn

from rarts_mm.analysis import ResultsTable, count_flops, count_parameters
from rarts_mm.analysis.complexity import WHOLE

from .targets import PARAMETERS, Target

MODEL = "model"
# A budget is met if at least this share of it is used.
MET = 0.99


class BudgetError(RuntimeError):
    """A pruned network costs more than the plan that it was made by."""


@dataclass
class Plan:
    """What one pruning keeps.

    Attributes:
        target: what was asked for.
        kept: unit name -> sorted indices of the dimensions that stay.
        removed: share of all scores that goes.
        budget, reached, whole: what may remain, what should by the widths, and what there was, in the
            target's quantity; None for shares of the scores.
        counted: what does remain, counted on the pruned network.
        of: the part that the budget counts.
        agreements: name of another criterion -> how far its ranking agrees, under the same target.
        step: the smallest amount by which more could be kept, where the budget was not met.
    """

    target: Target
    kept: dict[str, Tensor]
    removed: float
    budget: float | None = None
    reached: int | None = None
    whole: int | None = None
    of: str | None = None
    agreements: dict[str, dict] = field(default_factory=dict)
    step: float | None = None
    counted: int | None = None

    @property
    def remains(self) -> int | None:
        """What remains, as far as it is known."""
        return self.reached if self.counted is None else self.counted

    @property
    def met(self) -> bool:
        """Whether the budget is used to within 1 %."""
        return self.budget is None or self.remains >= MET * self.budget

    def __str__(self) -> str:
        if self.budget is None:
            return f"{self.removed:.1%} of the scores removed"
        text = (
            f"{amount_of(self.remains)} of {amount_of(self.whole)} {self.target.quantity} of the {self.of} "
            f"remain, {self.remains / self.budget:.1%} of the budget of {amount_of(self.budget)}; "
            f"{self.removed:.1%} of the scores removed"
        )
        if not self.met:
            text += (
                f"\nNOTE: nothing more fits: the smallest further step is {amount_of(self.step)} "
                f"{self.target.quantity}"
            )
        return text

    def to_dict(self) -> dict:
        """Everything but the indices, ready for JSON."""
        out = asdict(self)
        for key in ("kept", "target"):
            del out[key]
        return dict(out, asked=self.target.title)

    def check(self, network: nn.Module, size: tuple[int, int]) -> None:
        """Count what a pruned network really costs.

        Args:
            network: the network without scores.
            size: height and width of the image that FLOPs are counted for.

        Raises:
            BudgetError: it costs more than the budget.
        """
        if self.budget is None:
            return
        part = network if self.of == MODEL else network.get_submodule(self.of)
        if self.target.quantity == PARAMETERS:
            counted = count_parameters(part)
        else:
            counted = count_flops(network, size).flops.get(
                WHOLE if self.of == MODEL else self.of, 0
            )
        # A budget may be a fraction of a parameter, and the plan's sum has rounding.
        if counted > math.ceil(self.budget):
            raise BudgetError(
                f"The pruned {self.of} has {counted:,} {self.target.quantity}, more than the budget of "
                f"{self.budget:,.0f} that {' '.join(self.target.arguments)} asks for ({self.reached:,} "
                "were expected from the widths). Nothing has been written; please report the layers it "
                "has, or leave units out with model.space.exclude."
            )
        self.counted = counted

    def agreement_table(self) -> ResultsTable | None:
        """How far the rankings by what the search learned agree."""
        if not self.agreements:
            return None
        rows = [dict(criterion=name, **values) for name, values in self.agreements.items()]
        return ResultsTable(
            {"criterion": None, "rank_correlation": "{:.3f}".format, "overlap": "%"},
            rows,
            title="Agreement of the criteria",
            notes=[
                "rank correlation (Spearman) over all dimensions, and share of the kept dimensions in "
                "common, with the criterion that was used"
            ],
        )


def amount_of(number: float) -> str:
    """``22.1 M``."""
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "K")):
        if number >= factor:
            return f"{number / factor:.4g} {letter}"
    return f"{number:.4g}"
