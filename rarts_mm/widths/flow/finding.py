"""From a network and an example to its groups of channels."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..running import Forward, converted, evaluation_copy
from .branches import can_run, in_both_modes
from .groups import ALONE, UNREAD, ChannelGroup, Frozen, Groups
from .hosts import free_hosts
from .rules import RULES, fallback
from .scoring import keep_scorable
from .tracing import FlowError, Tracer
from .trial import try_groups
from .uneven import uneven_copy
from .watching import watch


def find_groups(
    network: nn.Module,
    inputs: Any,
    forward: Forward | None = None,
    scored: bool = False,
    heads: bool = False,
) -> Groups:
    """Run a network once and find the groups of channels that can be cut.

    Each of them is then cut on trial and compared with the network in which its channels are zero: what
    differs, or does not run, is frozen. Where the network does not run all of itself in evaluation mode, it
    is also run with the branches that it has for training.

    Of an attention the dimensions that all heads have go, so that heads get narrower. Where the trace
    says that they cannot, as a softmax is over them, or with ``heads``, heads go as a whole instead.

    Args:
        network: any network; it is not changed.
        inputs: an example, as small as the network accepts.
        forward: ``forward(network, inputs)``; ``network(inputs)`` by default.
        scored: whether the groups are to carry scores; those that cannot are frozen then.
        heads: whether attentions lose whole heads rather than dimensions of each.

    Raises:
        FlowError: the network does not run on the example, or has no attention where ``heads`` asks for it.
    """
    exact = free_hosts(evaluation_copy(network, torch.float64))
    inputs = converted(inputs, torch.float64)
    traced = _traced(exact, inputs, forward)
    uneven = uneven_copy(exact, inputs, traced.groups.forward)
    groups = traced.groups
    whole = traced.attentions(None if heads else groups)
    if heads and not whole:
        raise FlowError(
            f"heads=True: in the {type(network).__name__} there is no attention whose heads could go"
        )
    if whole:
        groups = _traced(exact, inputs, forward, whole).groups
    try_groups(uneven, groups, inputs, groups.forward)
    if scored and groups.groups:
        keep_scorable(uneven, groups, inputs, groups.forward)
    return groups


class _Traced(NamedTuple):
    groups: Groups
    tracer: Tracer

    def attentions(self, apart_from: Groups | None) -> frozenset[str]:
        """Paths of the attentions, apart from those with dimensions of heads that are in some groups."""
        tracer = self.tracer
        cut = set() if apart_from is None else _classes(apart_from, tracer)
        of: dict[str, set[int]] = defaultdict(set)
        for path, layer in tracer.split:
            of[path].update(tracer.atoms.roots(layer).unique().tolist())
        products = {
            path: {root for each in layers for root in tracer.atoms.roots(each).unique().tolist()}
            for path, layers in tracer.attentions.items()
        }
        found: set[str] = set()
        for path, heads in of.items():
            # Heads may be split in one module and multiplied in another.
            there = {each for each, summed in products.items() if each == path or summed & heads}
            if there and not heads & cut:
                found |= {path, *there}
        return frozenset(found)


def _traced(
    network: nn.Module, inputs: Any, forward: Forward | None, whole_heads: Collection[str] = ()
) -> _Traced:
    """Run it once, and if that leaves out something that training runs once more with that."""

    def trace(run: Forward | None) -> _Traced:
        tracer = Tracer(network, RULES, fallback, whole_heads=whole_heads)
        watch(tracer, network, inputs, run)
        groups = _collected(tracer, network)
        groups.forward, groups.whole_heads = run, frozenset(whole_heads)
        return _Traced(groups, tracer)

    traced = trace(forward)
    if traced.groups.not_run and can_run(network, inputs, both := in_both_modes(forward)):
        whole = trace(both)
        if len(whole.groups.not_run) < len(traced.groups.not_run):
            # What it costs is counted once: the first run is the same, atoms and all.
            whole.groups.products = whole.groups.products[: len(traced.groups.products)]
            return whole
    return traced


def _classes(groups: Groups, tracer: Tracer) -> set[int]:
    """Roots, in one trace, of all atoms that lie in groups of another trace of the same network."""
    found: set[int] = set()
    for group in groups.groups.values():
        for key, where in group.places.items():
            if key in tracer.places:
                found.update(tracer.atoms.roots(tracer.places[key].start + where).unique().tolist())
    return found


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
    vectors = [vector for product in tracer.products for vector in product.vectors]
    multiplied = {int(r) for vector in vectors for r in atoms.roots(vector).unique()}
    groups: dict[str, ChannelGroup] = {}
    stay: list[Frozen] = []
    for (reason, counts), found in kinds.items():
        first = atoms.places[counts[0][0]]
        keys = [(atoms.places[number].name, atoms.places[number].dim) for number, _ in counts]
        name = first.name.rpartition(".")[0] or first.name
        if not reason and len(found) == 1:
            reason = ALONE
        if not reason and not multiplied.intersection(found):
            # Rows that the example has not read, for example.
            reason = UNREAD
        if reason:
            stay.append(Frozen(name, len(found), reason, frozenset(keys)))
            continue
        where: dict[tuple[str, int], Tensor] = {}
        for key, (number, _) in zip(keys, counts, strict=True):
            rows = [members[root][number] for root in found]
            where[key] = torch.from_numpy(np.asarray(rows, dtype=np.int64))
        groups[_unused(name, groups)] = ChannelGroup(name, len(found), where)
    contracted = {int(r) for labels in tracer.contracted for r in atoms.roots(labels).unique()}
    heads = {int(r): n for labels, n in tracer.scaled for r in atoms.roots(labels).unique()}
    for name, group in groups.items():
        (key, where), *_ = group.places.items()
        first = int(atoms.roots(tracer.places[key].start + where[:1, 0])[0])
        groups[name] = replace(group, heads=heads.get(first, 0), is_contracted=first in contracted)
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
