"""From a network and an example to a smaller network."""

import copy
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

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
from rarts_mm.widths.proof import Proof
from rarts_mm.widths.running import (
    MISFITS,
    Forward,
    ProofError,
    converted,
    evaluation_copy,
)

from .choosing import asked_for, choose
from .inputs import calling
from .result import Smaller


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
            in attention over channels, where nothing else is possible.
        forward: ``forward(model, example_inputs)``, where calling the model is not what shall be run.

    Returns:
        ``print`` it.

    Raises:
        FlowError: the network does not run on the example.
        ValueError: ``include`` or ``exclude`` name nothing.
    """
    run = calling(example_inputs, forward)
    return found_groups(model, example_inputs, include, exclude, run, heads=heads)


def found_groups(
    model: nn.Module,
    inputs: Any,
    include: Names,
    exclude: Names,
    run: Forward,
    scored: bool = False,
    heads: bool = False,
) -> Groups:
    """As :func:`groups`; ``scored`` leaves those whose scores would not remove a channel at zero."""
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
    asked = asked_for(ratio=ratio, params=params, flops=flops)
    scored = criterion in FROM_DATA
    if scored != (data is not None and loss is not None):
        raise ValueError(
            f"criterion={criterion!r} ranks by the loss: give data (batches) and loss (of a model and a batch)."
            if scored
            else f"Only the criteria {', '.join(FROM_DATA)} look at data and loss, not {criterion!r}."
        )
    run = calling(example_inputs, forward)
    found = found_groups(model, example_inputs, include, exclude, run, scored, heads)
    if not found.groups:
        raise ValueError(f"There is nothing to cut in the {type(model).__name__}.\n{found}")
    measure = partial(_derivatives, model, found, data, loss) if scored else None
    costs = {"params": parameter_cost(model, found), "flops": flop_cost(found)}
    importance = channel_importance(model, found, criterion, seed, measure)
    kept = choose(found, importance, costs, asked, round_to, min_keep, scope)
    cut = Cut.of(found, kept)
    smaller = cut_network(copy.deepcopy(model), cut)
    proof = _prove(model, found, cut, example_inputs)
    return Smaller.of(model, smaller, found, kept, proof, costs["flops"], cut)


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


def _prove(model: nn.Module, found: Groups, cut: Cut, inputs: Any) -> Proof:
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
    return Proof(
        error=error,
        error_float32=None,
        tolerance=TOLERANCE,
        compared="",
        inputs=tuple(tuple(each.shape) for each in outputs_in(inputs)),
        outputs=len(outputs),
    )
