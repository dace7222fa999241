"""From a search and what is asked for to the dimensions that stay."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor

from rarts_mm.analysis.width_costs import WidthCosts
from rarts_mm.search import AUXILIARY
from rarts_mm.widths import importance, rank_scores
from rarts_mm.widths.budgets import WidthCost, agreement, keep_nonzero, keep_within
from rarts_mm.widths.derivatives import Derivatives
from rarts_mm.widths.flow.attached import attached
from rarts_mm.widths.naming import EVERYWHERE

from .errors import UsageError
from .input_size import input_size
from .plan import MODEL, Plan, amount_of
from .search_checkpoint import Search, build_searched
from .targets import FLOPS, PARAMETERS, SCORES, Target
from .training_losses import derivatives_of

BACKBONE = "backbone"
# Criteria that rank by what the search learned, and so can be compared with each other.
LEARNED = ("alpha", "alpha-norm", "alpha-per-cost")


@dataclass(frozen=True)
class Ranking:
    """How dimensions are ranked and kept; the options of ``tools/prune.py``.

    Attributes:
        criterion: what they are ranked by, a key of :data:`~rarts_mm.widths.CRITERIA`.
        seed: of the criterion ``'random'``; the others do not read it.
        scope: ``'global'``, ``'layer'`` or ``'type'``: what is compared with what.
        round_to: widths are multiples of this number, or whole.
        min_keep: floor: dimensions that every layer keeps.
        of: what a budget counts, ``'backbone'`` or ``'model'``; None: the backbone if all units lie
            there, else the model.
        input_size: height and width of the image that FLOPs are counted for; None: the config's.
        images: how many training images the criteria that look at the loss see; the others see none.
    """

    criterion: str = "alpha"
    seed: int = 0
    scope: str = "global"
    round_to: int = 1
    min_keep: int = 1
    of: str | None = None
    input_size: tuple[int, int] | None = None
    images: int = 256

    @property
    def arguments(self) -> list[str]:
        """The command line's arguments that say it, as far as they are no defaults."""
        out = []
        for name, value in self._chosen():
            values = value if isinstance(value, tuple) else (value,)
            out += [f"--{name.replace('_', '-')}", *map(str, values)]
        return out

    @property
    def suffix(self) -> str:
        """What tells the folders of different rankings apart: ``_magnitude_round8``; empty by default."""
        prefixes = dict(seed="seed", scope="per-", round_to="round", min_keep="keep", of="of-")
        prefixes |= dict(images="images")
        out = ""
        for name, value in self._chosen():
            text = "x".join(map(str, value)) if isinstance(value, tuple) else value
            out += f"_{prefixes.get(name, '')}{text}"
        return out

    def _chosen(self) -> list[tuple[str, Any]]:
        pairs = ((f.name, getattr(self, f.name), f.default) for f in fields(self))
        return [(name, value) for name, value, default in pairs if value != default]


def needs_no_scores(how: Ranking, targets: Sequence[Target] = ()) -> bool:
    """Whether nothing that is asked for looks at what a search learned."""
    return how.criterion not in LEARNED and not any(target.auto for target in targets)


def make_plans(search: Search, targets: Sequence[Target], how: Ranking) -> dict[Target, Plan]:
    """Decide what stays for every target.

    Raises:
        UsageError: a target that cannot be met, or numbers that cannot be ranked.
    """
    try:
        planner = _Planner(search, how)
        return {target: planner.plan(target) for target in targets}
    except ValueError as error:
        raise UsageError(str(error)) from error


def check_plans(cfg: Config, targets: Sequence[Target], how: Ranking) -> dict[Target, int | None]:
    """Raise unless a search of this config can be pruned to these targets, whatever it finds.

    What widths cost does not depend on the scores, so the floors are known before the search.

    Returns:
        What there is, in each target's quantity; None for shares of the scores.

    Raises:
        UsageError: a budget below the floors, a ``round_to`` larger than a unit, no such part, an input
            size that the network cannot take; a search that has no widths.
    """
    model = build_searched(cfg)
    model.space.move_to_readers(model.kept)
    alphas = {name: torch.rand(a.numel()) for name, a in model.alpha_parameters().items()}
    search = Search(cfg, model, model.kept, alphas, {}, Path(), AUXILIARY)
    given = [target for target in targets if not target.auto]
    plans = make_plans(search, given, replace(how, criterion="random"))
    return {target: plan.whole for target, plan in plans.items()}


class _Planner:
    """Counts each cost once, for all targets of one search."""

    def __init__(self, search: Search, how: Ranking) -> None:
        self.search, self.how = search, how
        self.network = search.network
        self.units, _ = search.model.space.units(self.network)
        self._counts = WidthCosts(self.network)
        self._costs: dict[tuple[str, str], WidthCost] = {}
        self._parts: dict[str, str] = {}
        self._measured: Derivatives | None = None

    def plan(self, target: Target) -> Plan:
        kept = self._keep(target, self.how.criterion)
        total = sum(unit.size for unit in self.units)
        if sum(map(len, kept.values())) == total:
            raise ValueError(_nothing_goes(target, total))
        plan = Plan(target, kept, 1 - sum(map(len, kept.values())) / total)
        if target.quantity != SCORES:
            cost, plan.of = self._cost(target.quantity), self._part(target.quantity)
            widths = {name: len(index) for name, index in kept.items()}
            plan.whole, plan.budget = cost.whole, self._budget(target)
            plan.reached = cost(widths)
            plan.step = self._smallest_step(cost, widths)
        if self.how.criterion in LEARNED and not target.auto:
            plan.agreements = self._agreements(target, kept)
        return plan

    def _keep(self, target: Target, criterion: str) -> dict[str, Tensor]:
        how = self.how
        if target.auto:
            for flag, value, default in (
                ("--criterion", criterion, Ranking.criterion),
                ("--scope", how.scope, Ranking.scope),
            ):
                if value != default:
                    raise ValueError(
                        f"--ratio auto removes the scores that are exactly zero, which {flag} {value} "
                        "has nothing to do with; leave one of the two out."
                    )
            return keep_nonzero(self.search.alphas, min_keep=how.min_keep, round_to=how.round_to)
        values = self._importance(target, criterion)
        settings = dict(
            min_keep=how.min_keep,
            round_to=how.round_to,
            scope=how.scope,
            kinds={unit.name: unit.kind for unit in self.units},
            multiples={unit.name: unit.multiple for unit in self.units},
        )
        if target.quantity == SCORES:
            return rank_scores(values, target.amount, **settings)
        return keep_within(values, self._cost(target.quantity), self._budget(target), **settings)

    def _importance(self, target: Target, criterion: str) -> dict[str, Tensor]:
        cost = None
        if criterion == "alpha-per-cost":
            # Of the whole model: what a dimension costs outside the budget's part it costs, too.
            quantity = FLOPS if target.quantity == FLOPS else PARAMETERS
            cost = self._cost(quantity, MODEL)
        return importance(
            self.network, criterion, self.how.seed, self.search.alphas, cost, self._derivatives
        )

    def _derivatives(self) -> Derivatives:
        """Measured once for all targets."""
        if self._measured is None:
            one_by_one = self.how.criterion == "fisher"
            self._measured = derivatives_of(self.search, self.how.images, one_by_one)
        return self._measured

    def _cost(self, quantity: str, of: str | None = None) -> WidthCost:
        if of is None:
            if quantity not in self._parts:
                self._parts[quantity] = self._part(quantity)
            of = self._parts[quantity]
        if (quantity, of) not in self._costs:
            part = EVERYWHERE if of == MODEL else BACKBONE
            if quantity == PARAMETERS:
                cost = self._counts.parameters(part)
            else:
                size = self.how.input_size or input_size(self.search.cfg)
                cost = self._counts.flops(size, part)
            self._costs[quantity, of] = cost
        return self._costs[quantity, of]

    def _budget(self, target: Target) -> float:
        cost = self._cost(target.quantity)
        budget = target.amount if target.absolute else target.amount * cost.whole
        if budget >= cost.whole:
            raise ValueError(
                f"{' '.join(target.arguments)} asks for no less than there is: the "
                f"{self._part(target.quantity)} has "
                f"{amount_of(cost.whole)} {target.quantity}. Ask for less, or give a share such as 0.6."
            )
        return budget

    def _part(self, quantity: str) -> str:
        """What a budget of this quantity counts."""
        has_backbone = hasattr(self.network, BACKBONE)
        # Groups of channels run through all of it.
        whole = not has_backbone or attached(self.network) is not None
        if self.how.of == MODEL or (self.how.of is None and whole):
            return MODEL
        if not has_backbone:
            raise ValueError(
                f"--of backbone: the {type(self.network).__name__} has no backbone; use --of model."
            )
        # Outside the backbone, or read there: PreResNet's last channels.
        costs = self._cost(quantity, BACKBONE).per_dimension()
        free = [name for name, cost in costs.items() if not cost]
        if not free:
            return BACKBONE
        if self.how.of is None:
            return MODEL
        raise ValueError(
            f"--of backbone: {len(free)} of {len(self.units)} scored units cost no {quantity} in the "
            f"backbone, the first is {free[0]}, and all of them would stay; use --of model."
        )

    def _smallest_step(self, cost: WidthCost, widths: Mapping[str, int]) -> float | None:
        steps = [
            cost.increase(widths, name, min(self.how.round_to, size - widths[name]))
            for name, size in cost.sizes.items()
            if widths[name] < size
        ]
        return min((step for step in steps if step), default=None)

    def _agreements(self, target: Target, kept: Mapping[str, Tensor]) -> dict[str, dict]:
        own = self._importance(target, self.how.criterion)
        out = {}
        for other in LEARNED:
            if other != self.how.criterion:
                theirs = self._importance(target, other)
                found = agreement(own, theirs, kept, self._keep(target, other))
                out[other] = asdict(found)
        return out


def _nothing_goes(target: Target, total: int) -> str:
    asked = " ".join(target.arguments)
    if target.quantity != SCORES:
        return (
            f"{asked} removes nothing: it leaves less than one of {total} scores out; ask for less."
        )
    # Rounded to the nearest number of scores.
    least = (math.floor(0.5e4 / total) + 1) / 1e4
    return (
        f"{asked} removes nothing: it is less than half of one of {total} scores. Give at least "
        f"--ratio {least:g}, or leave the pruning out."
    )
