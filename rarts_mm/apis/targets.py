"""What a pruning asks for: a share of the scores, or a budget of parameters or FLOPs."""

import math
import re
from dataclasses import dataclass

from .errors import UsageError

SCORES, PARAMETERS, FLOPS = "scores", "parameters", "FLOPs"
AUTO = "auto"

_FLAGS = {SCORES: "ratio", PARAMETERS: "params", FLOPS: "flops"}
_EXAMPLES = {SCORES: "0.4", PARAMETERS: "0.6 or 22M", FLOPS: "0.6 or 300G"}
_FACTORS = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "T": 1e12}


@dataclass(frozen=True)
class Target:
    """One pruning that is asked for.

    Attributes:
        quantity: ``'scores'``, ``'parameters'`` or ``'FLOPs'``.
        amount: for scores the share that goes, in (0, 1), or None for those that are exactly zero
            (``auto``); otherwise what may remain, a share in (0, 1) or a number of parameters or
            multiply-adds.
        text: as it was written.
    """

    quantity: str
    amount: float | None
    text: str

    @property
    def auto(self) -> bool:
        """Whether exactly the zeros go."""
        return self.amount is None

    @property
    def absolute(self) -> bool:
        """Whether the amount is a number of parameters or multiply-adds, not a share."""
        return self.amount is not None and self.amount >= 1

    @property
    def folder(self) -> str:
        """``pruned_40``, ``pruned_auto``, ``pruned_params_60``, ``pruned_flops_300G``."""
        kind = "" if self.quantity == SCORES else f"{_FLAGS[self.quantity]}_"
        return f"pruned_{kind}{self._short}"

    @property
    def label(self) -> str:
        """Short: ``40 %`` (of the scores removed), ``params 60 %`` (kept), ``flops 300G``."""
        kind = "" if self.quantity == SCORES else f"{_FLAGS[self.quantity]} "
        return f"{kind}{self._short}{'' if self.auto or self.absolute else ' %'}"

    @property
    def title(self) -> str:
        """``40 % of the scores removed``, ``60 % of the parameters kept``."""
        if self.auto:
            return "scores of exactly zero removed"
        amount = self._short if self.absolute else f"{100 * self.amount:g} %"
        if self.quantity == SCORES:
            return f"{amount} of the scores removed"
        return (
            f"{amount} {self.quantity}"
            if self.absolute
            else f"{amount} of the {self.quantity} kept"
        )

    @property
    def arguments(self) -> list[str]:
        """The command line's arguments that ask for it."""
        return [f"--{_FLAGS[self.quantity]}", self.text]

    @property
    def _short(self) -> str:
        if self.auto:
            return AUTO
        return self.text if self.absolute else f"{100 * self.amount:g}"


def parse_target(quantity: str, text: str | float) -> Target:
    """Read the value of ``--ratio``, ``--params`` or ``--flops``.

    Raises:
        UsageError: no number, or one out of range.
    """
    if isinstance(text, Target):
        return text
    flag = f"--{_FLAGS[quantity]}"
    written = str(text).strip()
    if quantity == SCORES and written == AUTO:
        return Target(SCORES, None, AUTO)
    match = re.fullmatch(r"([-+0-9.eE]+)\s*([A-Za-z]?)", written)
    try:
        number = float(match[1]) if match else math.nan
        factor = _FACTORS[match[2].upper()] if match else 1
    except (ValueError, KeyError):
        number, factor = math.nan, 1
    if not math.isfinite(number) or (quantity == SCORES and factor != 1):
        or_auto = f" or {AUTO!r}" if quantity == SCORES else ""
        raise UsageError(
            f"{flag} must be a number such as {_EXAMPLES[quantity]}{or_auto}, got {text!r}"
        )
    amount = number * factor
    if quantity == SCORES and not 0 < amount < 1:
        raise UsageError(
            f"--ratio is the share of scores to remove and must lie strictly between 0 and 1, "
            f"got {text}; for 40 % write 0.4"
        )
    if amount <= 0 or amount == 1:
        raise UsageError(
            f"{flag} is what may remain, a share between 0 and 1 or a number of {quantity} such as "
            f"{_EXAMPLES[quantity].split()[-1]}, got {text}"
        )
    # 0.4 and 0.40 are one target.
    return Target(quantity, amount, written if amount >= 1 else f"{amount:g}")
