"""From a network and an example to a smaller network."""

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rarts_mm.widths import rank_scores
from rarts_mm.widths.budgets import WidthCost, keep_within
from rarts_mm.widths.derivatives import FROM_DATA, Derivatives, measure_derivatives
from rarts_mm.widths.flow import Groups, find_groups
from rarts_mm.widths.flow.choosing import leave_out
from rarts_mm.widths.flow.costs import flop_cost, parameter_cost
from rarts_mm.widths.flow.criteria import channel_importance
from rarts_mm.widths.flow.cutting import cut_network
from rarts_mm.widths.flow.record import Cut
from rarts_mm.widths.flow.scoring import insert_group_scores
from rarts_mm.widths.flow.trial import TOLERANCE, worst_difference
from rarts_mm.widths.flow.uneven import uneven_copy
from rarts_mm.widths.flow.watching import compute, masked_outputs, outputs_in
from rarts_mm.widths.naming import EVERYWHERE, Names
from rarts_mm.widths.running import (
    MISFITS,
    Forward,
    ProofError,
    converted,
    evaluation_copy,
)

from .files import write
from .inputs import calling


@dataclass(frozen=True)
class Smaller:
    """A network that has been cut.

    Attributes:
        model: the smaller network, a copy of the given one with fewer channels.
        groups: what could be cut, and what could not and why.
        kept: group -> the channels that stayed.
        error: max |difference| / max |output| between the smaller network and the given one with the
            removed channels at zero, in float64.
        parameters, flops: before and after; multiply-adds of the example.
    """

    model: nn.Module
    groups: Groups
    kept: Mapping[str, Tensor]
    error: float
    parameters: tuple[int, int]
    flops: tuple[int, int]
    cut: Cut = field(repr=False)

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


def save(smaller: Smaller, folder: str | Path) -> None:
    """Write a smaller network; see :meth:`Smaller.save`."""
    smaller.save(folder)


def groups(
    model: nn.Module,
    example_inputs: Any,
    *,
    include: Names = EVERYWHERE,
    exclude: Names = (),
    heads: bool = False,
    forward: Forward | None = None,
) -> Groups:
    """What channels of a network can only go together, and which cannot go and why.

    Args:
        model: any network; it is not changed.
        example_inputs: what it is called with: one argument, a tuple of several, or a dict by their names.
        include: what is looked at: paths of modules, names of groups, patterns such as ``'layer3.*'``.
        exclude: what is not, in the same way.
        heads: whether attentions lose whole heads. By default their heads get narrower, and go as a whole only
            where they cannot, as in attention over channels.
        forward: ``forward(model, example_inputs)``, where calling the model is not what shall be run.

    Returns:
        ``print`` it.

    Raises:
        FlowError: the network does not run on the example.
        ValueError: ``include`` or ``exclude`` name nothing.
    """
    run = calling(example_inputs, forward)
    return _groups(model, example_inputs, include, exclude, run, heads=heads)


def _groups(
    model: nn.Module,
    inputs: Any,
    include: Names,
    exclude: Names,
    run: Forward,
    scored: bool = False,
    heads: bool = False,
) -> Groups:
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a torch.nn.Module, got a {type(model).__name__}")
    found = find_groups(model, inputs, run, scored, heads)
    leave_out(model, found, include, exclude)
    return found


def prune(
    model: nn.Module,
    example_inputs: Any,
    ratio: float | None = None,
    *,
    params: float | None = None,
    flops: float | None = None,
    criterion: str = "magnitude",
    round_to: int = 1,
    min_keep: int = 1,
    scope: str = "global",
    include: Names = EVERYWHERE,
    exclude: Names = (),
    heads: bool = False,
    seed: int = 0,
    data: Iterable[Any] | None = None,
    loss: Callable[[nn.Module, Any], Tensor] | None = None,
    forward: Forward | None = None,
) -> Smaller:
    """Cut the least important channels of any network, and prove that it computes the same.

    .. code-block:: python

        smaller = rarts_mm.prune(torchvision.models.resnet50(), torch.randn(1, 3, 224, 224), ratio=0.4)
        print(smaller)
        smaller.model(images)

    Args:
        model: any network; it is not changed.
        example_inputs: what it is called with: one argument, a tuple of several, or a dict by their names.
            FLOPs are those of the example.
        ratio: share of all channels that goes, in (0, 1).
        params, flops: or what may remain: a share in (0, 1), or a number above 1.
        criterion: ``'magnitude'``, ``'geometric-median'``, ``'random'``; or by the loss on data ``'taylor'``
            and ``'fisher'``, whose mean is over what ``data`` yields: batches of one image are its definition.
        round_to: widths of layers are multiples of this; groups that are smaller stay whole.
        min_keep: channels that every group keeps.
        scope: ``'global'`` compares all channels, ``'layer'`` takes the same share of every group.
        include, exclude, heads, forward: as for :func:`groups`.
        seed: of the criterion ``'random'``.
        data: batches for ``loss``, a few hundred images; for the criteria that look at it.
        loss: ``loss(model, batch)``, a scalar. The model is a copy in evaluation mode.

    Raises:
        FlowError: the network does not run on the example.
        ValueError: nothing can be cut (with the reasons), or an option that makes no sense.
        ProofError: the result differs from the network with its channels at zero; please report it.
    """
    given = {
        k: v for k, v in dict(ratio=ratio, params=params, flops=flops).items() if v is not None
    }
    if len(given) != 1:
        raise ValueError(
            f"Give one of ratio (0.4 removes 40 % of the channels), params and flops (what may remain), "
            f"got {', '.join(given) or 'none'}."
        )
    scored = criterion in FROM_DATA
    if scored != (data is not None and loss is not None):
        raise ValueError(
            f"criterion={criterion!r} ranks by the loss: give data (batches) and loss (of a model and a batch)."
            if scored
            else f"Only the criteria {', '.join(FROM_DATA)} look at data and loss, not {criterion!r}."
        )
    run = calling(example_inputs, forward)
    found = _groups(model, example_inputs, include, exclude, run, scored, heads)
    if not found.groups:
        raise ValueError(f"There is nothing to cut in the {type(model).__name__}.\n{found}")
    measure = partial(_derivatives, model, found, data, loss) if scored else None
    costs = {"params": parameter_cost(model, found), "flops": flop_cost(found)}
    kept = _choose(model, found, costs, given, criterion, round_to, min_keep, scope, seed, measure)
    cut = Cut.of(found, kept)
    smaller = cut_network(copy.deepcopy(model), cut)
    error = _prove(model, found, cut, example_inputs)
    widths = {name: len(index) for name, index in kept.items()}
    count = tuple(sum(p.numel() for p in each.parameters()) for each in (model, smaller))
    return Smaller(
        smaller, found, kept, error, count, (costs["flops"].whole, costs["flops"](widths)), cut
    )


def _choose(
    model: nn.Module,
    found: Groups,
    costs: Mapping[str, WidthCost],
    given: Mapping[str, float],
    criterion: str,
    round_to: int,
    min_keep: int,
    scope: str,
    seed: int,
    measure: Callable[[], Derivatives] | None,
) -> dict[str, Tensor]:
    (what, amount), *_ = given.items()
    multiples = {name: group.multiple for name, group in found.groups.items()}
    numbers = channel_importance(model, found, criterion, seed, measure)
    settings = dict(
        min_keep=min_keep,
        round_to=round_to,
        scope=scope,
        kinds=dict.fromkeys(numbers, "channel"),
        multiples=multiples,
    )
    if what == "ratio":
        return rank_scores(numbers, amount, **settings)
    cost = costs[what]
    if isinstance(amount, bool) or not isinstance(amount, int | float) or not amount > 0:
        raise ValueError(f"{what}={amount!r} must be a share in (0, 1), or a number above 1.")
    budget = amount * cost.whole if amount < 1 else amount
    if budget >= cost.whole:
        raise ValueError(f"{what}={amount!r} is no less than there is: {cost.whole:,}.")
    return keep_within(numbers, cost, budget, **settings)


def _derivatives(
    model: nn.Module,
    found: Groups,
    data: Iterable[Any],
    loss: Callable[[nn.Module, Any], Tensor],
) -> Derivatives:
    """What the loss says about the channels, by scores of one in front of all that reads them."""
    scored, alphas = copy.deepcopy(model), {}
    like = next(model.parameters())
    for name, group in found.groups.items():
        alphas[name] = torch.ones(group.size, dtype=like.dtype, device=like.device)
        insert_group_scores(scored, found, name, alphas[name])
    written = {name: group.written(model) for name, group in found.groups.items()}
    losses = (partial(loss, scored, batch) for batch in data)
    return measure_derivatives(scored, alphas, losses, written)


def _prove(model: nn.Module, found: Groups, cut: Cut, inputs: Any) -> float:
    """How far the cut network is from the masked one, in float64, in evaluation mode.

    A network that puts out zeros whatever it computes, as a new one with a head of zeros does, is compared
    with uneven weights instead.
    """
    exact = evaluation_copy(model, torch.float64)
    inputs = converted(inputs, torch.float64)
    with torch.no_grad():
        plain = outputs_in(compute(exact, inputs, found.forward))
    if not all(bool(each.any()) for each in plain if each.is_floating_point()):
        exact = uneven_copy(exact, inputs, found.forward)
    wanted = masked_outputs(exact, found, cut.kept, inputs, found.forward)
    try:
        with torch.no_grad():
            outputs = outputs_in(compute(cut_network(exact, cut), inputs, found.forward))
    except MISFITS as error:
        raise ProofError(
            f"The cut {type(model).__name__} does not run at these widths ({type(error).__name__}: {error}); "
            "another round_to may do, or exclude the layers that it names."
        ) from error
    same = [t.shape for t in wanted] == [t.shape for t in outputs]
    error = worst_difference(wanted, outputs) if same else float("inf")
    if not error <= TOLERANCE:
        raise ProofError(
            f"The cut {type(model).__name__} does not compute what the network with its channels at zero "
            f"computes: the relative difference is {error:.3g} in float64, at most {TOLERANCE:.0e} is "
            "rounding. It must not be used; please report the layers it has."
        )
    return error
