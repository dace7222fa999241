"""Groups of channels: what an analysis ends in."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from ..derivatives import Written
from ..running import Forward
from .atoms import Atoms, Place
from .rules.convolution import KERNEL
from .tracing import Product

ALONE = "it is one channel"
UNREAD = "no layer multiplies it"


class Number(NamedTuple):
    """A number that a module has written down: it is ``count`` times a group's width.

    Attributes:
        path: of the module.
        attribute: its name there.
        count: entries that a channel has in it.
        index: where it stands if the attribute is a tuple or list, such as a shape.
    """

    path: str
    attribute: str
    count: int
    index: int | None = None


class Factor(NamedTuple):
    """Rows of a linear layer that make good for an attention that divides by the root of its width.

    With k of n dimensions left it would divide by less, so these rows are multiplied by sqrt(k / n).

    Attributes:
        path: of the layer that writes the queries, perhaps with keys and values.
        parts: as many equal parts does it write, of which the first one is multiplied.
        of_each: whether each head has these parts, rather than each part the heads.
    """

    path: str
    parts: int
    of_each: bool = False


@dataclass(frozen=True)
class ChannelGroup:
    """Channels of the same kind, each of which can go by itself, with all that goes with it.

    Attributes:
        name: path of the layer that writes them first.
        size: number of channels.
        places: (parameter or buffer, dimension) -> (size, n) indices: those of channel i are in row i.
        numbers: what modules have to know of its width.
        factors: rows that change with its width.
        heads: of an attention that divides by the root of the group's width; 0 if there is none.
        is_contracted: whether maps are multiplied and summed over it, as queries and keys are.
    """

    name: str
    size: int
    places: Mapping[tuple[str, int], Tensor]
    numbers: tuple[Number, ...] = ()
    factors: tuple[Factor, ...] = ()
    heads: int = 0
    is_contracted: bool = False

    @property
    def parameters(self) -> frozenset[str]:
        """Names of the parameters and buffers that get smaller with the group."""
        return frozenset(name for name, _ in self.places)

    def writers(self, network: nn.Module) -> list[str]:
        """Paths of the layers that write its channels."""
        found = []
        for name, dim in self.places:
            path, _, kind = name.rpartition(".")
            transposed = isinstance(network.get_submodule(path), _ConvTransposeNd)
            if kind == "weight" and dim == int(transposed):
                found.append(path)
        return found

    def written(self, network: nn.Module) -> list[Written]:
        """Those layers, with the share of their outputs that is one channel."""
        found = []
        for path in self.writers(network):
            layer = network.get_submodule(path)
            if layer.weight.dim() < 2:
                # A norm's outputs are the maps that it is given.
                continue
            dim = int(isinstance(layer, _ConvTransposeNd))
            outputs = layer.weight.shape[dim] * (layer.groups if dim else 1)
            name = f"{path}.weight" if path else "weight"
            found.append(Written(path, self.places[name, dim].shape[1] / outputs))
        return found

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
        whole_heads: paths of the attentions whose heads go as a whole.
    """

    groups: dict[str, ChannelGroup]
    frozen: list[Frozen]
    norms: frozenset[str]
    not_run: tuple[str, ...]
    atoms: Atoms = field(repr=False)
    places: dict[tuple[str, int], Place] = field(repr=False)
    products: list[Product] = field(repr=False)
    whole_heads: frozenset[str] = frozenset()
    # How the network was run, where that is not to call it.
    forward: Forward | None = field(default=None, repr=False)
    # Groups whose scores stand behind the layers that write them (widths/flow/scoring.py).
    written_scores: set[str] = field(default_factory=set, repr=False)

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
