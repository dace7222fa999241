"""Trying groups out: code may rest on numbers that an analysis does not see.

``x.view(b, n, self.heads, self.head_dim)`` and ``x.split(self.width)`` are such numbers. A group that does
not run when it is cut is tried again with the numbers of the modules around it changed as it changes; what
then runs and computes what the masked network computes is right, and the rest is frozen.
"""

import os
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import exactly
from ..running import MISFITS, Forward, copied_around, relative_difference
from .cutting import cut_network
from .groups import ChannelGroup, Factor, Groups, Number
from .record import Cut
from .watching import compute, masked_outputs, outputs_in

# Largest max |difference| / max |reference| that is rounding, in float64.
TOLERANCE = 1e-11
# Of a module's numbers that could be a group's, so many are changed together at most.
_NUMBERS = 3
# Groups in a module that are tried with each other at most.
_NEAR = 12
# Changes that are tried before a group is given up.
_TRIES = 60
# The same where outputs are compared, which takes a run of all of the network.
_EXACT_TRIES = 20
# Of groups that lose the same share.
_TIED_TRIES = 6
# Modules around the one that does not run whose numbers are looked at: itself, a list that it is in, and what holds that.
_AROUND = 3
_TORCH = f"{Path(torch.__file__).parent}{os.sep}"


@dataclass(frozen=True)
class _Failure:
    """Where and why a cut network does not run.

    Attributes:
        where: path of the module.
        why: what it says.
        line: file and number of the line, outside of torch, that asked for it.
    """

    where: str
    why: str
    line: tuple[str, int] = ("", 0)


class _Passed(Exception):
    """A run has come as far as it had to."""


def try_groups(
    network: nn.Module, groups: Groups, inputs: Any, forward: Forward | None = None
) -> None:
    """Freeze the groups that do not compute the same cut as masked.

    Args:
        network: the network in float64, in evaluation mode.
        groups: what was found in it; changed in place.
    """
    trial = _Trial(network, groups, inputs, forward)
    for name, group in groups.groups.items():
        if group.heads and (factors := list(_factors(network, group))):
            # The likeliest; whether it is right shows below.
            groups.groups[name] = replace(group, factors=(factors[0],))
    _let_it_run(trial)
    _let_it_agree(trial)
    # Code may also ask for even widths, say.
    trial.take_one_more()
    before = list(groups.groups.values())
    _let_it_run(trial)
    if any(a is not b for a, b in zip(before, groups.groups.values(), strict=False)):
        _let_it_agree(trial)


def _let_it_run(trial: "_Trial") -> None:
    """Repair or freeze groups until the network runs with a part of all of them gone."""
    groups = trial.groups
    seen: set[tuple[str, str, Hashable]] = set()
    while groups.groups:
        failure = trial.fails(groups.groups)
        if failure is None:
            break
        suspects = _around(failure.where, groups)
        culprits = {
            name: why for name in suspects if (why := trial.fails_alone(name, failure.where))
        }
        # Only together: one of them stays.
        culprits = culprits or {suspects[0]: failure}
        # What it could be tied to may be another now.
        state = frozenset((name, groups.groups[name].size) for name in suspects)
        again = {name for name, found in culprits.items() if (name, found.where, state) in seen}
        seen |= {(name, found.where, state) for name, found in culprits.items()}
        left = [
            name
            for name, found in culprits.items()
            if name in again or not trial.repair(name, found.where)
        ]
        if trial.tie_around(failure.where, [name for name in left if name not in again]):
            # What still does not run may be tied to what they are now.
            continue
        for name in left:
            groups.freeze([name], f"cut on trial it does not run: {culprits[name].why}")


def _let_it_agree(trial: "_Trial") -> None:
    """Repair or freeze groups until it computes the same cut as masked."""
    groups = trial.groups
    while groups.groups:
        names = list(groups.groups)
        why = trial.differs(names)
        if why is None:
            return
        while len(names) > 1:
            half = names[: len(names) // 2]
            found = trial.differs(half)
            if found is None:
                half = names[len(names) // 2 :]
                found = trial.differs(half)
            if found is None:
                # Only together: one of them stays.
                half, found = names[:1], why
            names, why = half, found
        if not trial.repair(names[0], names[0], exactly=True):
            groups.freeze(names, f"cut on trial, {why}")


class _Trial:
    def __init__(
        self, network: nn.Module, groups: Groups, inputs: Any, forward: Forward | None
    ) -> None:
        self.network, self.groups = network, groups
        self.inputs, self.forward = inputs, forward
        self._wanted: dict[tuple[str, ...], list[Tensor]] = {}
        # As they were when nothing was found for them.
        self._hopeless: dict[str, ChannelGroup] = {}
        self._beyond: set[Hashable] = set()
        self._more = 0
        # Class of a module -> attributes and indices of its numbers that have followed a group.
        self._helped: dict[type, frozenset[tuple[str, int | None]]] = {}
        # How a group as it was then, cut alone, did, and where the run ended by itself.
        self._alone: dict[str, tuple[ChannelGroup, _Failure | None, str | None]] = {}

    def take_one_more(self) -> None:
        """Keep one channel more of every group from now on."""
        self._more = 1
        self._alone.clear()
        self._wanted.clear()

    def fails(self, names: Iterable[str], until: str | None = None) -> _Failure | None:
        """Why the network does not run with a part of these groups gone, or None.

        Args:
            until: path of the module whose end is enough.
        """
        failure, _ = self._run(self._some(names), until)
        return failure

    def fails_alone(self, name: str, until: str | None = None) -> _Failure | None:
        """The same of one group, which is run again only after it has changed."""
        group = self.groups.groups[name]
        before, failure, end = self._alone.get(name, (None, None, None))
        if before is not group or (failure is None and end not in (None, until)):
            failure = self.fails([name], until)
            self._alone[name] = group, failure, until
        return failure

    def differs(self, names: Iterable[str]) -> str | None:
        """What is wrong with the outputs then, or None."""
        names = tuple(names)
        kept = self._some(names)
        failure, found = self._run(kept)
        if failure is not None:
            return f"it does not run: {failure.why}"
        if names not in self._wanted:
            # The last one is asked for again, with other numbers.
            self._wanted = {
                names: masked_outputs(self.network, self.groups, kept, self.inputs, self.forward)
            }
        wanted = self._wanted[names]
        if [t.shape for t in wanted] != [t.shape for t in found]:
            return "its outputs have other shapes"
        error = worst_difference(wanted, found)
        return None if error <= TOLERANCE else f"its outputs differ by {error:.1e}"

    def repair(self, name: str, where: str, exactly: bool = False) -> bool:
        """Find numbers of the modules around ``where`` that follow the group's width, with which it runs.

        Args:
            exactly: whether its outputs have to be right, too; any of its factors is tried then.
        """
        group = self.groups.groups[name]
        if self._hopeless.get(name) is group or self._like(where, group) in self._beyond:
            return False
        path = where.partition(":")[0]
        changes = self._changes(path, group)
        if exactly:
            other = ((each,) for each in _factors(self.network, group))
            changes = chain(((replace(group, factors=each), ()) for each in other), changes)
        for changed, numbers in islice(changes, _EXACT_TRIES if exactly else _TRIES):
            if self._works(name, changed, exactly):
                self._likewise(name, numbers)
                self._factors_likewise(changed)
                return True
        self.groups.groups[name] = group
        self._hopeless[name] = group
        if like := self._like(where, group):
            self._beyond.add(like)
        return False

    def _changes(
        self, path: str, group: ChannelGroup
    ) -> Iterator[tuple[ChannelGroup, tuple[Number, ...]]]:
        """A group with more numbers that follow it, of the modules around a place, the likeliest first."""
        around = [*islice(_parents(path), _AROUND)]
        for counts in ((0, 1), range(2, _NUMBERS + 1)):
            for place in around:
                for numbers in self._combinations(place, group, counts):
                    alike = _alike(self.network, group, numbers)
                    for more in (alike, ()) if alike else ((),):
                        yield replace(group, numbers=group.numbers + numbers + more), numbers
            if 1 in counts:
                # What holds blocks may ask one of them.
                for numbers in self._inside(around[-1], group):
                    yield replace(group, numbers=group.numbers + numbers), numbers

    def _combinations(
        self, path: str, group: ChannelGroup, counts: Iterable[int]
    ) -> Iterator[tuple[Number, ...]]:
        """So many at a time of the numbers of a module; first those that have helped in one of its class."""
        if not _is_path(self.network, path):
            return
        module = self.network.get_submodule(path)
        found = list(_numbers(module, path, group))
        known = self._helped.get(type(module), frozenset())
        before = tuple(each for each in found if (each.attribute, each.index) in known)
        if before and 0 in counts:
            yield before
        for count in counts:
            yield from combinations(found, count)

    def _inside(self, path: str, group: ChannelGroup) -> Iterator[tuple[Number, ...]]:
        """Of the classes of modules in a module that hold parameters of a group the numbers that could be its
        width, the same one of all of them each time."""
        holders = {name.rpartition(".")[0] for name in group.parameters}
        found: dict[tuple[type, str, int | None], list[Number]] = defaultdict(list)
        for inner, module in self.network.named_modules():
            if not _is_inside(inner, path) or type(module).__module__.startswith("torch."):
                continue
            if any(_is_inside(holder, inner) for holder in holders):
                for number in _numbers(module, inner, group):
                    found[type(module), number.attribute, number.index].append(number)
        for numbers in found.values():
            yield tuple(numbers)

    def _likewise(self, name: str, numbers: tuple[Number, ...]) -> None:
        """Let other groups change the same numbers where they stand alike, which spares a search each.

        Networks repeat their blocks. What does not run with them gets its old numbers back.
        """
        if not numbers:
            return
        first = numbers[0].path
        kind = type(self.network.get_submodule(first))
        self._helped[kind] = frozenset((n.attribute, n.index) for n in numbers)
        inside = _inside(first, self.groups.groups[name])
        if not inside:
            return
        wanted = {number[1:] for number in numbers}
        before = dict(self.groups.groups)
        for other, group in before.items():
            found = [
                number
                for path, module in self.network.named_modules()
                if type(module) is kind and path != first and _inside(path, group) == inside
                for number in _numbers(module, path, group)
                if number[1:] in wanted
            ]
            if found and other != name:
                self.groups.groups[other] = replace(group, numbers=(*group.numbers, *found))
        changed = [
            other for other, group in before.items() if self.groups.groups[other] is not group
        ]
        if changed and self.fails(changed):
            for other in changed:
                if self.fails_alone(other):
                    self.groups.groups[other] = before[other]

    def _factors_likewise(self, group: ChannelGroup) -> None:
        """Give other groups the same factor where they stand alike; whether it is right shows afterwards."""
        for factor in group.factors:
            first, _, leaf = factor.path.rpartition(".")
            kind, inside = type(self.network.get_submodule(first)), _inside(first, group)
            alike = [p for p, m in self.network.named_modules() if type(m) is kind and p != first]
            for name, other in self.groups.groups.items():
                if other.is_contracted and not other.factors:
                    paths = [path for path in alike if _inside(path, other) == inside]
                    factors = tuple(factor._replace(path=f"{path}.{leaf}") for path in paths)
                    self.groups.groups[name] = replace(other, factors=factors)

    def _like(self, where: str, group: ChannelGroup) -> Hashable:
        """What the place at which a group does not run has in common with its repetitions."""
        path = where.partition(":")[0]
        inside = _inside(path, group) if _is_path(self.network, path) else None
        return (type(self.network.get_submodule(path)), inside) if inside else None

    def tie_around(self, where: str, names: list[str]) -> list[str]:
        """As :meth:`tie`, and if these do not help each other with all that fail in the modules around."""
        tied = self.tie(names)
        path = where
        for _ in range(_AROUND - 1):
            if tied or not path:
                break
            path = path.rpartition(".")[0]
            near = _around(path, self.groups)
            if len(near) > _NEAR:
                break
            tied = self.tie([name for name in near if self.fails_alone(name)])
        return tied

    def tie(self, names: list[str]) -> list[str]:
        """Let groups lose the same share, where the code takes the width of one for a multiple of another's:
        heads as wide as a stream's width by their number.

        Returns:
            The names that need no more be looked at.
        """
        saved = dict(self.groups.groups)
        for name in names:
            before = self.fails_alone(name)
            if before is None:
                continue
            tied, rest, at = [name], [each for each in names if each != name], before
            while (found := self._tie_one(name, rest, at)) is not None:
                other, after = found
                tied.append(other)
                rest.remove(other)
                # A layer of the module itself may be the next that wants the same width.
                if after is None or not _is_inside(after.where, before.where):
                    return tied
                at = after
            if len(tied) > 1 and (at.where != before.where or self.repair(name, at.where)):
                return tied
            self.groups.groups.clear()
            self.groups.groups.update(saved)
        return []

    def _tie_one(
        self, name: str, others: Sequence[str], at: _Failure
    ) -> tuple[str, _Failure | None] | None:
        """The first of the others with which a group comes further than to the line at which it failed."""
        groups = self.groups.groups
        for other in others:
            first, second = groups[name], groups[other]
            if first.size % second.size == 0:
                groups[name] = _tied(first, second)
            elif second.size % first.size == 0:
                groups[name] = replace(_tied(second, first), name=name)
            else:
                continue
            del groups[other]
            tied = groups[name]
            # Perhaps only with a number that follows both, as that of the heads does.
            place = at.where.partition(":")[0]
            changes = islice(self._changes(place, tied), _TIED_TRIES)
            tries = [tied, *(changed for changed, _ in changes)]
            if place in self.groups.whole_heads:
                # As many heads, each a little narrower, may run as well.
                tries.sort(key=lambda changed: len(changed.numbers) == len(tied.numbers))
            for changed in tries:
                groups[name] = changed
                after = self.fails_alone(name)
                if after is None or (after.where, after.line) != (at.where, at.line):
                    return other, after
            groups[name], groups[other] = first, second
        return None

    def _works(self, name: str, changed: ChannelGroup, exactly: bool) -> bool:
        before = None if exactly else self.fails_alone(name)
        self.groups.groups[name] = changed
        if exactly:
            return self.differs([name]) is None
        after = self.fails_alone(name)
        return after is None or (before is not None and after.where != before.where)

    def _some(self, names: Iterable[str]) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(0)
        kept = {}
        for name in names:
            size = self.groups.groups[name].size
            # Another share of each: what only works as all lose the same would not show.
            share = 0.2 + 0.5 * torch.rand((), generator=generator).item()
            order = torch.randperm(size, generator=generator)
            count = max(round((1 - share) * size), 1) + self._more
            kept[name] = order[: min(count, size - 1)].sort().values
        return kept

    def _run(
        self, kept: dict[str, Tensor], until: str | None = None
    ) -> tuple[_Failure | None, list[Tensor]]:
        smaller = cut_network(copied_around(self.network), Cut.of(self.groups, kept))
        inside: list[str] = []

        # Not after an exception: what is inside then has raised it.
        def leave(*_: object) -> None:
            if inside.pop() == until:
                raise _Passed

        for path, module in smaller.named_modules():
            module.register_forward_pre_hook(lambda *_, path=path: inside.append(path))
            module.register_forward_hook(leave)
        try:
            with torch.no_grad():
                return None, outputs_in(compute(smaller, self.inputs, self.forward))
        except _Passed:
            return None, []
        except MISFITS as error:
            where = inside[-1] if inside else ""
            lines = str(error).splitlines() or [type(error).__name__]
            why = f"{lines[0][:200]}{f' ({where})' if where else ''}"
            return _Failure(where, why, _line(error)), []


def _line(error: BaseException) -> tuple[str, int]:
    """File and line of the innermost frame that is neither torch's nor of the mode in which it runs."""
    found, trace = ("", 0), error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if not name.startswith((_TORCH, exactly.__file__)):
            found = name, trace.tb_lineno
        trace = trace.tb_next
    return found


def _tied(first: ChannelGroup, second: ChannelGroup) -> ChannelGroup:
    """A group with both: channel i has i of the second and i, i + size, i + 2 size, ... of the first."""
    size = second.size
    places = {}
    for key, where in first.places.items():
        places[key] = where.view(-1, size, where.shape[1]).transpose(0, 1).reshape(size, -1)
    for key, where in second.places.items():
        places[key] = torch.cat([places[key], where], 1) if key in places else where
    return ChannelGroup(
        first.name,
        size,
        places,
        tuple(n._replace(count=n.count * (first.size // size)) for n in first.numbers)
        + second.numbers,
        first.factors + second.factors,
        first.heads or second.heads,
        first.is_contracted or second.is_contracted,
    )


def _parents(path: str) -> Iterator[str]:
    """A module's path, and those of the modules around it."""
    yield path
    while path:
        path = path.rpartition(".")[0]
        yield path


def _is_inside(path: str, holder: str) -> bool:
    return path == holder or not holder or path.startswith(f"{holder}.")


def _is_path(network: nn.Module, path: str) -> bool:
    return any(path == name for name, _ in network.named_modules())


def _factors(network: nn.Module, group: ChannelGroup) -> Iterator[Factor]:
    """Layers whose rows could be the queries of an attention over the group's dimensions."""
    if not (group.heads or group.is_contracted):
        return
    for (parameter, dim), where in group.places.items():
        path, _, kind = parameter.rpartition(".")
        if dim or kind != "weight" or not isinstance(network.get_submodule(path), nn.Linear):
            continue
        # Queries, keys and values in one, keys and values, or alone: as many parts as the heads say.
        rows = where.shape[1]
        likely = rows // group.heads if group.heads and rows % group.heads == 0 else 1
        parts = dict.fromkeys((likely, 3, 2, 1))
        fitting = [n for n in parts if n and rows % n == 0]
        yield from (Factor(path, n) for n in fitting)
        yield from (Factor(path, n, of_each=True) for n in fitting if n > 1)


def _inside(path: str, group: ChannelGroup) -> frozenset[tuple[str, int, int]]:
    """Where in a module a group's channels are: name there, dimension, indices of a channel."""
    prefix = f"{path}." if path else ""
    return frozenset(
        (name.removeprefix(prefix), dim, where.shape[1])
        for (name, dim), where in group.places.items()
        if name.startswith(prefix)
    )


def _around(path: str, groups: Groups) -> list[str]:
    """The groups with parameters in a module, or in the next one around it that has some."""
    while True:
        prefix = f"{path}." if path else ""
        found = [
            name
            for name, group in groups.groups.items()
            if any(parameter.startswith(prefix) for parameter in group.parameters)
        ]
        if found or not path:
            return found
        path = path.rpartition(".")[0]


def _numbers(module: nn.Module, path: str, group: ChannelGroup) -> Iterator[Number]:
    """The numbers of a module that could be a multiple of the group's width."""
    prefix = f"{path}." if path else ""
    counts = {
        where.shape[1]
        for (parameter, _), where in group.places.items()
        if parameter.startswith(prefix)
    }
    # One of several equal parts: a head's dimensions, the channels of one branch.
    counts |= {1}
    lengths = {count * group.size: count for count in sorted(counts)}
    taken = {(number.path, number.attribute, number.index) for number in group.numbers}
    for attribute, value in vars(module).items():
        found = [(None, value)]
        if type(value) in (tuple, list, torch.Size):
            found = list(enumerate(value))
        for index, each in found:
            known = (path, attribute, index) in taken
            if type(each) is int and each in lengths and not known:
                yield Number(path, attribute, lengths[each], index)


def _alike(
    network: nn.Module, group: ChannelGroup, numbers: tuple[Number, ...]
) -> tuple[Number, ...]:
    """The same numbers of other modules of the same classes that hold parameters of the group, or none."""
    holders = {name.rpartition(".")[0] for name in group.parameters}
    found = []
    for number in numbers:
        kind = type(network.get_submodule(number.path))
        for path, module in network.named_modules():
            if type(module) is not kind or path == number.path:
                continue
            bare = next(module.parameters(), None) is None
            if bare or any(each == path or each.startswith(f"{path}.") for each in holders):
                same = [n for n in _numbers(module, path, group) if n[1:] == number[1:]]
                found += same
    return tuple(found)


def worst_difference(wanted: Sequence[Tensor], found: Sequence[Tensor]) -> float:
    """The largest relative difference of all pairs; what is no number with a point has to be equal."""
    errors = [0.0]
    for a, b in zip(wanted, found, strict=True):
        if not (a.is_floating_point() or a.is_complex()):
            errors.append(0.0 if torch.equal(a, b) else float("inf"))
        elif a.numel():
            errors.append(relative_difference(a, b))
    return max(errors)
