"""Scores on groups of channels: where they stand, and that zero there removes a channel."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from ..layers.scored_channels import (
    INPUTS,
    OUTPUTS,
    Scored,
    ScoredChannels,
    can_be_scored,
    is_transposed,
    plain_channels,
    score_channels,
)
from ..layers.sliced_norms import norm_kind
from ..running import Forward, copied_around
from .cutting import cut_network
from .groups import Groups
from .record import Cut
from .trial import TOLERANCE, worst_difference
from .watching import compute, masked_outputs, outputs_in

UNSCORED = "a score of zero would not remove its channels: "


@dataclass(frozen=True)
class Place:
    """One side of a layer on which a group's scores stand.

    Attributes:
        path: of the layer.
        side: its inputs or its outputs.
        where: (size, n) indices along that side.
    """

    path: str
    side: str
    where: Tensor


def score_places(network: nn.Module, groups: Groups, name: str) -> list[Place]:
    """Where the scores of a group stand: where layers read its channels.

    That is in front of every layer that sums over them and of every norm over them. Products of
    activations, as in attention, have no layer that reads; the scores of a group that is met there stand
    behind the layers that write it, as SiDT has them on queries, keys and values (thesis, section 4.3).
    """
    group = groups.groups[name]
    side = OUTPUTS if name in groups.written_scores else INPUTS
    owners = _owners(network)
    found = []
    for (parameter, dim), where in group.places.items():
        for path, key in owners.get(parameter, ()):
            layer = network.get_submodule(path)
            if key == "weight" and can_be_scored(layer) and _side(layer, dim, path, groups) == side:
                found.append(Place(path, side, _positions(layer, side, where)))
    return found


def insert_group_scores(network: nn.Module, groups: Groups, name: str, alpha: Tensor) -> None:
    """Let the layers of a network multiply the channels of a group by scores, in place.

    Args:
        name: of the group.
        alpha: (size,) scores.
    """
    for place in score_places(network, groups, name):
        layer = network.get_submodule(place.path)
        score_channels(layer)
        layer.carry(place.side, [*layer.scored(place.side), Scored(name, alpha, place.where)])


def scored_layers(network: nn.Module) -> Iterable[tuple[str, ScoredChannels]]:
    """Path and layer of all that carry scores of groups."""
    return ((p, m) for p, m in network.named_modules() if isinstance(m, ScoredChannels))


def carried(network: nn.Module) -> dict[str, Tensor]:
    """Group -> the scores that the layers of a network refer to."""
    found: dict[str, Tensor] = {}
    for _, layer in scored_layers(network):
        for side in (INPUTS, OUTPUTS):
            found.update({each.group: each.alpha for each in layer.scored(side)})
    return found


def scored_norms(network: nn.Module) -> frozenset[str]:
    """Paths of the norms that have scores in front of them."""
    return frozenset(p for p, layer in scored_layers(network) if norm_kind(layer) is not None)


def keep_scorable(
    network: nn.Module, groups: Groups, inputs: Any, forward: Forward | None = None
) -> None:
    """Freeze the groups whose scores would not remove a channel at zero; found by trying.

    Args:
        network: the network, without scores, in float64 and evaluation mode, with uneven weights.
        groups: what was found in it; changed in place.
        inputs, forward: as for :func:`~rarts_mm.widths.flow.find_groups`.
    """
    bare = [name for name in groups.groups if not score_places(network, groups, name)]
    # Of these it is likely; the others show below.
    attention = [name for name, group in groups.groups.items() if group.is_contracted]
    groups.written_scores |= {*bare, *attention}
    trial = _ScoreTrial(network, groups, inputs, forward)
    turned: set[str] = set()
    while groups.groups and not trial.scores_remove(list(groups.groups), trial.masked):
        names = list(groups.groups)
        # What is cut is known to compute what is masked, and runs faster. Only together: one of them stays.
        wrong = trial.hunt(names, trial.cut) or trial.hunt(names, trial.masked) or names[:1]
        groups.freeze(
            [name for name in wrong if name in turned],
            f"{UNSCORED}no layer reads or writes all of them",
        )
        turned |= set(wrong)
        groups.written_scores ^= set(wrong) & set(groups.groups)


class _ScoreTrial:
    def __init__(
        self, network: nn.Module, groups: Groups, inputs: Any, forward: Forward | None
    ) -> None:
        self.network, self.groups = network, groups
        self.inputs, self.forward = inputs, forward

    def masked(self, kept: dict[str, Tensor]) -> list[Tensor]:
        """What the network puts out with zeros for what is not kept."""
        return masked_outputs(self.network, self.groups, kept, self.inputs, self.forward)

    def cut(self, kept: dict[str, Tensor]) -> list[Tensor]:
        """What it puts out without it."""
        return self._run(cut_network(copied_around(self.network), Cut.of(self.groups, kept)))

    def hunt(
        self, names: list[str], reference: Callable[[dict[str, Tensor]], list[Tensor]]
    ) -> list[str]:
        """Those of some groups whose scores do not remove channels, found by halving."""
        if not names or self.scores_remove(names, reference):
            return []
        if len(names) == 1:
            return names
        half = len(names) // 2
        return self.hunt(names[:half], reference) + self.hunt(names[half:], reference)

    def scores_remove(
        self, names: list[str], reference: Callable[[dict[str, Tensor]], list[Tensor]]
    ) -> bool:
        """Whether the network with zeros among these scores puts out what the reference does."""
        generator = torch.Generator().manual_seed(0)
        scored, kept = copied_around(self.network), {}
        for name in names:
            if not score_places(self.network, self.groups, name):
                return False
            size = self.groups.groups[name].size
            order = torch.randperm(size, generator=generator)
            kept[name] = order[: max(size // 2, 1)].sort().values
            alpha = torch.zeros(size, dtype=torch.float64)
            alpha[kept[name]] = 1.0
            insert_group_scores(scored, self.groups, name, alpha)
        wanted, found = reference(kept), self._run(scored)
        same = [t.shape for t in wanted] == [t.shape for t in found]
        return same and worst_difference(wanted, found) <= TOLERANCE

    def _run(self, network: nn.Module) -> list[Tensor]:
        with torch.no_grad():
            return outputs_in(compute(network, self.inputs, self.forward))


def _owners(network: nn.Module) -> dict[str, list[tuple[str, str]]]:
    """Parameter, by its first name -> path and own name of all modules that have it."""
    first: dict[int, str] = {}
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for path, module in network.named_modules():
        for key, parameter in module._parameters.items():
            if parameter is not None:
                name = first.setdefault(id(parameter), f"{path}.{key}" if path else key)
                found[name].append((path, key))
    return found


def _side(layer: nn.Module, dim: int, path: str, groups: Groups) -> str | None:
    """Whether a dimension of a layer's weight is its inputs or its outputs."""
    if norm_kind(layer) is not None:
        return INPUTS if path in groups.norms else None
    if dim > 1 or (isinstance(layer, _ConvNd) and layer.groups > 1 and layer.weight.shape[1] == 1):
        # One input each: whoever reads what comes out reads it.
        return None
    return OUTPUTS if dim == int(is_transposed(layer)) else INPUTS


def _positions(layer: nn.Module, side: str, where: Tensor) -> Tensor:
    """Indices along a layer's inputs or outputs: a weight in groups has those of one group."""
    groups = getattr(layer, "groups", 1)
    shared = side == (OUTPUTS if is_transposed(layer) else INPUTS)
    if groups == 1 or not shared:
        return where
    each = layer.weight.shape[1]
    return torch.cat([where + each * number for number in range(groups)], 1)


def fold_scores(network: nn.Module) -> dict[str, Tensor]:
    """Multiply the weights by the scores in front of them or behind, in place; no layer has scores then.

    Returns:
        Path of a norm -> (width,) what its input is multiplied with, which no weight of it can do.
    """
    scales: dict[str, Tensor] = {}
    # What two layers share is multiplied once.
    done: set[int] = set()
    for path, layer in list(scored_layers(network)):
        factors = {side: layer.factor(side, layer.weight) for side in (INPUTS, OUTPUTS)}
        plain_channels(layer)
        if norm_kind(layer) is not None:
            scales[path] = factors[INPUTS].detach().clone()
            continue
        with torch.no_grad():
            for side, factor in factors.items():
                if factor is None:
                    continue
                if id(layer.weight) not in done:
                    _multiply(layer, side, factor)
                if side == OUTPUTS and layer.bias is not None and id(layer.bias) not in done:
                    layer.bias *= factor
                    done.add(id(layer.bias))
        done.add(id(layer.weight))
    return scales


def _multiply(layer: nn.Module, side: str, factor: Tensor) -> None:
    """Multiply a layer's weight along its inputs or outputs."""
    transposed = is_transposed(layer)
    dim = int((side == OUTPUTS) == transposed)
    # A weight in groups has the inputs, if transposed the outputs, of one group, which all share.
    factor = factor[: layer.weight.shape[dim]]
    shape = [1] * layer.weight.dim()
    shape[dim] = -1
    layer.weight *= factor.view(shape)


def norm_channels(
    groups: Groups, kept: Mapping[str, Tensor], scales: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Path of a norm -> which of its channels stay.

    Args:
        kept: group -> sorted indices of the channels that stay.
        scales: path of a norm -> (width,) one number per channel.
    """
    left = {path: torch.ones(len(scale), dtype=torch.bool) for path, scale in scales.items()}
    for name, indices in kept.items():
        group = groups.groups[name]
        gone = torch.ones(group.size, dtype=torch.bool)
        gone[torch.as_tensor(indices)] = False
        for path, mask in left.items():
            where = group.places.get((f"{path}.weight", 0))
            if where is not None:
                mask[where[gone].flatten()] = False
    return left
