"""What a topology search derives: for every node of the two kinds of cell, two operations and inputs.

A cell has the inputs 0 and 1 (the outputs of the cell before the last one, and of the last one);
node i of it is number i + 2 where a later node, or the concatenation, names it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Any

from .genotype_text import nearest, read_text
from .operations import OPERATIONS

Pair = tuple[str, int]
INPUTS = 2  # of a cell, and also of a node
CHOICES = tuple(name for name in OPERATIONS if name != "none")


@dataclass(frozen=True)
class Genotype:
    """The two kinds of cell of a derived network (Liu et al., ICLR 2019, section 2.4).

    Lists are taken for tuples, ranges too. Nodes may have the same input twice: no DARTS derivation
    makes such a node, but published cells of other searches have some, and it is well defined.

    Args:
        normal: (operation, input), two for each node, nodes in order.
        normal_concat: numbers of the nodes whose outputs, in this order, are the cell's output.
        reduce, reduce_concat: the same of the cell that halves height and width.

    Raises:
        ValueError: which says where and why: unknown operation, or ``none``, which is no choice; an
            input that is not before its node; an odd number of pairs; a concatenation that is empty,
            or of what is no node, or of a node twice.
    """

    normal: tuple[Pair, ...]
    normal_concat: tuple[int, ...]
    reduce: tuple[Pair, ...]
    reduce_concat: tuple[int, ...]

    def __post_init__(self) -> None:
        for cell in ("normal", "reduce"):
            pairs = _checked_pairs(cell, getattr(self, cell))
            concat = _checked_concat(cell, getattr(self, f"{cell}_concat"), len(pairs) // INPUTS)
            object.__setattr__(self, cell, pairs)
            object.__setattr__(self, f"{cell}_concat", concat)

    @classmethod
    def parse(cls, genotype: "Genotype | str | Mapping[str, Any]") -> "Genotype":
        """From the classic text, JSON text, a mapping, or the name of a published genotype.

        Text is read as data; nothing of it is run.

        Raises:
            ValueError: says where and why, see the class.
        """
        if isinstance(genotype, cls):
            return genotype
        if isinstance(genotype, str):
            published = GENOTYPES.get(genotype.strip())
            return published or cls.parse(
                read_text(genotype, [f.name for f in fields(cls)], GENOTYPES)
            )
        if not isinstance(genotype, Mapping):
            raise ValueError(
                f"genotype: expected text, a mapping or the name of a published one, got "
                f"{type(genotype).__name__}"
            )
        names = [field.name for field in fields(cls)]
        for key in genotype:
            if key not in names:
                raise ValueError(f"genotype: unknown key {key!r}{nearest(key, names)}")
        missing = [name for name in names if name not in genotype]
        if missing:
            raise ValueError(f"genotype: {', '.join(missing)} missing; it needs {', '.join(names)}")
        return cls(**genotype)

    def text(self) -> str:
        """The classic form, ``Genotype(normal=[('sep_conv_3x3', 0), ...], ...)``; concat as a range
        where it is one."""
        parts = []
        for field in fields(self):
            value = list(getattr(self, field.name))
            if field.name.endswith("_concat"):
                whole = range(value[0], value[-1] + 1)
                value = whole if len(value) > 1 and list(whole) == value else value
            parts.append(f"{field.name}={value}")
        return f"Genotype({', '.join(parts)})"

    def to_dict(self) -> dict[str, list]:
        """Lists only, ready for JSON and for a config."""
        return {
            name: [list(item) if isinstance(item, tuple) else item for item in value]
            for name, value in asdict(self).items()
        }

    def nodes(self, cell: str) -> tuple[tuple[Pair, Pair], ...]:
        """The nodes of the cell ``'normal'`` or ``'reduce'``, each with its two (operation, input)."""
        pairs = getattr(self, cell)
        return tuple(zip(pairs[::2], pairs[1::2], strict=True))

    @property
    def skip_share(self) -> float:
        """Share of ``skip_connect`` among the operations of both cells."""
        return _skip_share(self.normal + self.reduce)

    @property
    def skip_shares(self) -> dict[str, float]:
        """Share of ``skip_connect`` in each kind of cell."""
        return {cell: _skip_share(getattr(self, cell)) for cell in ("normal", "reduce")}


def _skip_share(pairs: tuple[Pair, ...]) -> float:
    return sum(operation == "skip_connect" for operation, _ in pairs) / len(pairs)


def _checked_pairs(cell: str, pairs: object) -> tuple[Pair, ...]:
    if not isinstance(pairs, list | tuple):
        raise ValueError(
            f"genotype: {cell} must be a list of (operation, input), got {type(pairs).__name__}"
        )
    if not pairs or len(pairs) % INPUTS:
        raise ValueError(
            f"genotype: {cell} has {len(pairs)} pairs; it needs {INPUTS} for each node"
        )
    checked = []
    for i, pair in enumerate(pairs):
        node = i // INPUTS
        where = f"genotype: {cell}, node {node}, {('first', 'second')[i % INPUTS]} pair"
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ValueError(f"{where}: expected (operation, input), got {pair!r}")
        operation, source = pair
        if operation == "none":
            raise ValueError(f"{where}: 'none' is no connection, a derived cell has none of it")
        if operation not in CHOICES:
            raise ValueError(
                f"{where}: unknown operation {operation!r}{nearest(operation, CHOICES)}"
            )
        if not _is_int(source):
            raise ValueError(f"{where}: the input must be a whole number, got {source!r}")
        if not 0 <= source < INPUTS + node:
            raise ValueError(
                f"{where}: input {source} is not before the node, which can read 0 to "
                f"{INPUTS + node - 1} (0 and 1 are the cell's inputs, 2 is node 0)"
            )
        checked.append((operation, source))
    return tuple(checked)


def _checked_concat(cell: str, concat: object, nodes: int) -> tuple[int, ...]:
    where = f"genotype: {cell}_concat"
    numbers = f"this cell's nodes are {INPUTS} to {INPUTS + nodes - 1}"
    if not isinstance(concat, list | tuple | range):
        raise ValueError(
            f"{where} must be a list or a range of node numbers, got {type(concat).__name__}"
        )
    if not concat:
        raise ValueError(f"{where} is empty; {numbers}")
    for i, number in enumerate(concat):
        if not _is_int(number) or not INPUTS <= number < INPUTS + nodes:
            raise ValueError(f"{where}, position {i}: {number!r} is no node; {numbers}")
        if number in concat[:i]:
            raise ValueError(f"{where}, position {i}: node {number} is there twice")
    return tuple(concat)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# The cells that DARTS' authors published, found on CIFAR-10 with the first and the second order.
GENOTYPES: Mapping[str, Genotype] = MappingProxyType(
    {
        "DARTS_V1": Genotype(
            normal=(
                *(("sep_conv_3x3", 1), ("sep_conv_3x3", 0)),
                *(("skip_connect", 0), ("sep_conv_3x3", 1)),
                *(("skip_connect", 0), ("sep_conv_3x3", 1)),
                *(("sep_conv_3x3", 0), ("skip_connect", 2)),
            ),
            normal_concat=range(2, 6),
            reduce=(
                *(("max_pool_3x3", 0), ("max_pool_3x3", 1)),
                *(("skip_connect", 2), ("max_pool_3x3", 0)),
                *(("max_pool_3x3", 0), ("skip_connect", 2)),
                *(("skip_connect", 2), ("avg_pool_3x3", 0)),
            ),
            reduce_concat=range(2, 6),
        ),
        "DARTS_V2": Genotype(
            normal=(
                *(("sep_conv_3x3", 0), ("sep_conv_3x3", 1)),
                *(("sep_conv_3x3", 0), ("sep_conv_3x3", 1)),
                *(("sep_conv_3x3", 1), ("skip_connect", 0)),
                *(("skip_connect", 0), ("dil_conv_3x3", 2)),
            ),
            normal_concat=range(2, 6),
            reduce=(
                *(("max_pool_3x3", 0), ("max_pool_3x3", 1)),
                *(("skip_connect", 2), ("max_pool_3x3", 1)),
                *(("max_pool_3x3", 0), ("skip_connect", 2)),
                *(("skip_connect", 2), ("max_pool_3x3", 1)),
            ),
            reduce_concat=range(2, 6),
        ),
    }
)
