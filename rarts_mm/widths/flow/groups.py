"""Groups of channels: what an analysis ends in."""

import copy
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..running import Forward, call, converted, evaluation_copy, tensors_in
from .atoms import Atoms, Place
from .hosts import free_hosts
from .rules import READING, RULES, fallback
from .rules.convolution import KERNEL
from .tracing import FlowError, Product, Tracer
from .uneven import make_uneven

ALONE = "it is one channel"


class Number(NamedTuple):
    """A number that a module has written down: it is ``count`` times a group's width.

    Attributes:
        path: of the module.
        attribute: its name there.
        count: entries that a channel has in it.
    """

    path: str
    attribute: str
    count: int


class Factor(NamedTuple):
    """Rows of a linear layer that make good for an attention that divides by the root of its width.

    With k of n dimensions left it would divide by less, so these rows are multiplied by sqrt(k / n).

    Attributes:
        path: of the layer that writes the queries, perhaps with keys and values.
        parts: as many equal parts does it write, of which the first one is multiplied.
    """

    path: str
    parts: int


@dataclass(frozen=True)
class ChannelGroup:
    """Channels of the same kind, each of which can go by itself, with all that goes with it.

    Attributes:
        name: path of the layer that writes them first.
        size: number of channels.
        places: (parameter or buffer, dimension) -> (size, n) indices: those of channel i are in row i.
        numbers: what modules have to know of its width.
        factors: rows that change with its width.
        is_scaled: whether an attention divides by the root of its width.
    """

    name: str
    size: int
    places: Mapping[tuple[str, int], Tensor]
    numbers: tuple[Number, ...] = ()
    factors: tuple[Factor, ...] = ()
    is_scaled: bool = False

    @property
    def parameters(self) -> frozenset[str]:
        """Names of the parameters and buffers that get smaller with the group."""
        return frozenset(name for name, _ in self.places)

    @property
    def multiple(self) -> int:
        """How much wider the layer that writes the channels becomes with each of them."""
        where = next(iter(self.places.values()))
        return where.shape[1]


@dataclass(frozen=True)
class Frozen:
    """Channels that stay, and why.

    Attributes:
        name: path of the layer that writes them first.
        size: number of channels, or of sets of channels that could only go together.
        reason: completes "they stay, as ...".
        places: where they are, (parameter or buffer, dimension).
    """

    name: str
    size: int
    reason: str
    places: frozenset[tuple[str, int]]


@dataclass
class Groups:
    """What can be cut in a network, and what cannot.

    Attributes:
        groups: by name, in the order in which the network runs.
        frozen: the rest of what was met.
        norms: paths of the norms over channels.
        not_run: parameters that the example did not reach.
    """

    groups: dict[str, ChannelGroup]
    frozen: list[Frozen]
    norms: frozenset[str]
    not_run: tuple[str, ...]
    atoms: Atoms = field(repr=False)
    places: dict[tuple[str, int], Place] = field(repr=False)
    products: list[Product] = field(repr=False)

    @property
    def sizes(self) -> dict[str, int]:
        """Group -> its number of channels."""
        return {name: group.size for name, group in self.groups.items()}

    def freeze(self, names: Sequence[str], reason: str) -> None:
        """Let groups stay."""
        for name in names:
            group = self.groups.pop(name)
            self.frozen.append(Frozen(name, group.size, reason, frozenset(group.places)))

    def __str__(self) -> str:
        lines = [f"{len(self.groups)} groups of channels:"]
        for group in self.groups.values():
            layers = sorted({name.rpartition(".")[0] for name in group.parameters})
            more = f" and {len(layers) - 4} more" * (len(layers) > 4)
            lines.append(f"  {group.name}: {group.size} channels of {', '.join(layers[:4])}{more}")
        by_reason: dict[str, list[Frozen]] = defaultdict(list)
        for frozen in self.frozen:
            if frozen.reason not in (ALONE, KERNEL):
                by_reason[frozen.reason].append(frozen)
        if by_reason:
            lines.append("Not cut:")
        for reason, found in by_reason.items():
            names = list(dict.fromkeys(frozen.name for frozen in found))
            more = f" and {len(names) - 4} more" * (len(names) > 4)
            lines.append(f"  {', '.join(names[:4])}{more}: {reason}")
        if self.not_run:
            more = f" and {len(self.not_run) - 4} more" * (len(self.not_run) > 4)
            lines.append(f"Not run by the example: {', '.join(self.not_run[:4])}{more}")
        return "\n".join(lines)

    def removed(self, kept: Mapping[str, Tensor]) -> Tensor:
        """(number of atoms,) whether the class of each root goes; groups that are not named stay."""
        gone = torch.zeros(len(self.atoms), dtype=torch.bool)
        for name, indices in kept.items():
            group = self.groups[name]
            left = torch.ones(group.size, dtype=torch.bool)
            left[torch.as_tensor(indices)] = False
            for key, where in group.places.items():
                numbers = self.places[key].start + where[left].flatten()
                gone[self.atoms.roots(numbers)] = True
        return gone


def find_groups(network: nn.Module, inputs: Any, forward: Forward | None = None) -> Groups:
    """Run a network once and find the groups of channels that can be cut.

    Each of them is then cut on trial and compared with the network in which its channels are zero: what
    differs, or does not run, is frozen.

    Args:
        network: any network; it is not changed.
        inputs: an example, as small as the network accepts.
        forward: ``forward(network, inputs)``; ``network(inputs)`` by default.

    Raises:
        FlowError: the network does not run on the example.
    """
    from .trial import try_groups

    exact = free_hosts(evaluation_copy(network, torch.float64))
    inputs = converted(inputs, torch.float64)
    tracer = Tracer(exact, RULES, fallback)
    _run(tracer, exact, inputs, forward)
    groups = _collected(tracer, exact)
    try_groups(_uneven(exact, inputs, forward), groups, inputs, forward)
    return groups


def _uneven(network: nn.Module, inputs: Any, forward: Forward | None) -> nn.Module:
    """The network with uneven weights, unless it does not compute numbers with them."""
    other = make_uneven(copy.deepcopy(network))
    try:
        with torch.no_grad():
            outputs = tensors_in((forward or call)(other, inputs))
    # Code may look at values, which are others now.
    except (RuntimeError, ValueError, IndexError, AssertionError):
        return network
    return other if all(bool(each.isfinite().all()) for each in outputs) else network


def masked_outputs(
    network: nn.Module,
    groups: Groups,
    kept: Mapping[str, Tensor],
    inputs: Any,
    forward: Forward | None = None,
) -> list[Tensor]:
    """What the network puts out if the channels that are not kept are zero wherever they are read.

    Nothing in it is changed or replaced: zeros are put into the operations themselves.

    Args:
        network: the network, in float64 and evaluation mode.
        groups: what :func:`find_groups` found in it.
        kept: group -> sorted indices of the channels to keep; others stay whole.
        inputs, forward: as for :func:`find_groups`.
    """
    tracer = Tracer(
        network,
        RULES,
        fallback,
        copy.deepcopy(groups.atoms),
        dict(groups.places),
        groups.removed(kept),
        READING,
    )
    return tensors_in(_run(tracer, network, inputs, forward, freeze=False))


def _run(
    tracer: Tracer,
    network: nn.Module,
    inputs: Any,
    forward: Forward | None,
    freeze: bool = True,
) -> Any:
    try:
        with tracer.running():
            outputs = (forward or call)(network, inputs)
    except Exception as error:
        at = f" in {tracer.failed_in}" if tracer.failed_in else ""
        raise FlowError(
            f"The {type(network).__name__} does not run on the example{at} "
            f"({type(error).__name__}: {error}); give one that it accepts."
        ) from error
    if freeze:
        for output in tensors_in(outputs):
            for layer in tracer.layers(output):
                tracer.atoms.freeze(layer, "the network puts it out")
    return outputs


def _collected(tracer: Tracer, network: nn.Module) -> Groups:
    atoms = tracer.atoms
    roots, frozen = atoms.all_roots(), atoms.frozen()
    # Class -> place -> the indices there.
    members: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, place in enumerate(atoms.places):
        for index, root in enumerate(roots[place.start : place.start + place.size].tolist()):
            members[root][number].append(index)
    kinds: dict[tuple, list[int]] = defaultdict(list)
    for root in sorted(members):
        counts = tuple((number, len(where)) for number, where in sorted(members[root].items()))
        kinds[frozen.get(root, ""), counts].append(root)
    groups: dict[str, ChannelGroup] = {}
    stay: list[Frozen] = []
    for (reason, counts), found in kinds.items():
        first = atoms.places[counts[0][0]]
        keys = [(atoms.places[number].name, atoms.places[number].dim) for number, _ in counts]
        name = first.name.rpartition(".")[0] or first.name
        if not reason and len(found) == 1:
            reason = ALONE
        if reason:
            stay.append(Frozen(name, len(found), reason, frozenset(keys)))
            continue
        where: dict[tuple[str, int], Tensor] = {}
        for key, (number, _) in zip(keys, counts, strict=True):
            rows = [members[root][number] for root in found]
            where[key] = torch.from_numpy(np.asarray(rows, dtype=np.int64))
        groups[_unused(name, groups)] = ChannelGroup(name, len(found), where)
    scaled = {int(r) for labels in tracer.scaled for r in atoms.roots(labels).unique()}
    for name, group in groups.items():
        (key, where), *_ = group.places.items()
        first = int(atoms.roots(tracer.places[key].start + where[:1, 0])[0])
        groups[name] = ChannelGroup(name, group.size, group.places, is_scaled=first in scaled)
    met = {place.name for place in atoms.places}
    not_run = tuple(n for n, p in network.named_parameters() if n not in met and p.numel() > 1)
    return Groups(
        groups, stay, frozenset(tracer.norms), not_run, atoms, tracer.places, tracer.products
    )


def _unused(name: str, taken: Mapping[str, object]) -> str:
    if name not in taken:
        return name
    number = 2
    while f"{name}:{number}" in taken:
        number += 1
    return f"{name}:{number}"
