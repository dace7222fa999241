"""What a cut network needs to be built again, without running an analysis: as plain values."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..index_text import read_indices, write_indices
from .groups import ChannelGroup, Factor, Groups, Number

FORMAT = 1


@dataclass(frozen=True)
class Cut:
    """Channels that stay, and where the rest is taken from.

    Attributes:
        groups: group -> the group, of those that get smaller.
        kept: group -> sorted indices of the channels that stay.
        norms: paths of the norms over channels.
        scaled: those among them that multiply their inputs by numbers of their own, which were scores.
    """

    groups: Mapping[str, ChannelGroup]
    kept: Mapping[str, Tensor]
    norms: frozenset[str]
    scaled: frozenset[str] = frozenset()

    @classmethod
    def of(cls, groups: Groups, kept: Mapping[str, Tensor], scaled: Iterable[str] = ()) -> "Cut":
        """The part of ``groups`` that ``kept`` makes smaller."""
        smaller = {n: k for n, k in kept.items() if len(k) < groups.groups[n].size}
        return cls(
            {name: groups.groups[name] for name in smaller},
            smaller,
            groups.norms,
            frozenset(scaled),
        )

    @property
    def parameters(self) -> frozenset[str]:
        """Names of the parameters and buffers that get smaller."""
        return frozenset(name for group in self.groups.values() for name in group.parameters)

    def to_dict(self) -> dict[str, Any]:
        """As values that JSON has."""
        groups = {}
        for name, group in self.groups.items():
            groups[name] = dict(
                size=group.size,
                kept=write_indices(self.kept[name].tolist()),
                places=[[key, dim, _text(where)] for (key, dim), where in group.places.items()],
                numbers=[list(number) for number in group.numbers],
                factors=[list(factor) for factor in group.factors],
            )
        owners = {name.rpartition(".")[0] for name in self.parameters}
        content = dict(format=FORMAT, groups=groups, norms=sorted(self.norms & owners))
        return content | ({"scaled": sorted(self.scaled)} if self.scaled else {})

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Cut":
        """The inverse of :meth:`to_dict`.

        Raises:
            ValueError: of another format, or damaged.
        """
        try:
            if content["format"] != FORMAT:
                raise ValueError(f"format {content['format']!r} is not {FORMAT}")
            groups, kept = {}, {}
            for name, entry in content["groups"].items():
                size = int(entry["size"])
                if size < 1:
                    raise ValueError(f"size {size} of {name}")
                places = {(k, int(d)): _places(text, size) for k, d, text in entry["places"]}
                numbers = tuple(Number(*number) for number in entry["numbers"])
                factors = tuple(Factor(*factor) for factor in entry["factors"])
                groups[name] = ChannelGroup(name, size, places, numbers, factors)
                indices = read_indices(entry["kept"])
                if not indices or indices != sorted(set(indices)) or indices[-1] >= size:
                    raise ValueError(f"kept={entry['kept']!r} are no channels of {size}")
                kept[name] = torch.tensor(indices)
            scaled = frozenset(content.get("scaled", ()))
            return cls(groups, kept, frozenset(content["norms"]), scaled)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"no record of a cut network: {error}") from error

    def check(self, network: nn.Module) -> None:
        """Raise unless a network has the layers, in the sizes, that the record is of.

        Raises:
            ValueError: names the first that differs.
        """
        tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        for group in self.groups.values():
            for (name, dim), where in group.places.items():
                tensor = tensors.get(name)
                if tensor is None:
                    raise ValueError(
                        f"the network has no {name}, which was cut: it is another one, or the code of "
                        "the installed library has changed"
                    )
                size = tensor.shape[dim] if dim < tensor.dim() else 0
                if size <= int(where.max()):
                    raise ValueError(
                        f"{name} has shape {tuple(tensor.shape)}, but there were at least "
                        f"{int(where.max()) + 1} indices along dimension {dim} when it was cut: it is "
                        "another network, or the code of the installed library has changed"
                    )


def _text(where: Tensor) -> str:
    """(size, n) indices as runs, by rows or by columns, whichever is shorter."""
    rows, columns = _runs(where.flatten()), _runs(where.T.flatten())
    return f"rows {rows}" if len(rows) <= len(columns) else f"columns {columns}"


def _runs(indices: Tensor) -> str:
    return write_indices(indices.tolist())


def _places(text: str, size: int) -> Tensor:
    order, _, runs = text.partition(" ")
    flat = torch.tensor(read_indices(runs))
    if order not in ("rows", "columns") or not len(flat) or len(flat) % size:
        raise ValueError(f"{text!r} are no indices of {size} channels")
    return flat.view(size, -1) if order == "rows" else flat.view(-1, size).T
