"""From a network and an example to its groups of channels."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..running import Forward, converted, evaluation_copy
from .branches import can_run, in_both_modes
from .groups import ALONE, UNREAD, ChannelGroup, Frozen, Groups
from .hosts import free_hosts
from .rules import RULES, fallback
from .scoring import keep_scorable
from .tracing import Tracer
from .trial import try_groups
from .uneven import uneven_copy
from .watching import watch


def find_groups(
    network: nn.Module, inputs: Any, forward: Forward | None = None, scored: bool = False
) -> Groups:
    """Run a network once and find the groups of channels that can be cut.

    Each of them is then cut on trial and compared with the network in which its channels are zero: what
    differs, or does not run, is frozen. Where the network does not run all of itself in evaluation mode, it
    is also run with the branches that it has for training.

    Args:
        network: any network; it is not changed.
        inputs: an example, as small as the network accepts.
        forward: ``forward(network, inputs)``; ``network(inputs)`` by default.
        scored: whether the groups are to carry scores; those that cannot are frozen then.

    Raises:
        FlowError: the network does not run on the example.
    """
    exact = free_hosts(evaluation_copy(network, torch.float64))
    inputs = converted(inputs, torch.float64)
    tracer = Tracer(exact, RULES, fallback)
    watch(tracer, exact, inputs, forward)
    groups = _collected(tracer, exact)
    if groups.not_run and can_run(exact, inputs, both := in_both_modes(forward)):
        tracer = Tracer(exact, RULES, fallback)
        watch(tracer, exact, inputs, both)
        whole = _collected(tracer, exact)
        if len(whole.not_run) < len(groups.not_run):
            # What it costs is counted once: the first run is the same, atoms and all.
            whole.products = whole.products[: len(groups.products)]
            groups, forward = whole, both
    groups.forward = forward
    uneven = uneven_copy(exact, inputs, forward)
    try_groups(uneven, groups, inputs, forward)
    if scored and groups.groups:
        keep_scorable(uneven, groups, inputs, forward)
    return groups


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
