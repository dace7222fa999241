"""What the width search must know of a kind of layer."""

from abc import ABC, abstractmethod
from collections.abc import Container, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..classes import qualified_name
from ..layers.scored_linear import ScoredLinear
from ..layers.sliced_linear import SlicedLinear
from ..unit import Unit

# By name: a library that is not installed need not be imported to know that a layer is not of it.
PLAIN_LINEARS = frozenset({"torch.nn.modules.linear.Linear", "mmcv.cnn.bricks.wrappers.Linear"})


class WidthAdapter(ABC):
    """How one kind of layer, the host, carries scores on its dimensions and is cut to fewer.

    A new kind of layer is one subclass, registered in ``rarts_mm.registry.ADAPTERS``. A host with
    several independent groups of dimensions has one adapter per group, told apart by ``part``.

    Attributes:
        hosts: Qualified names of the classes it takes. Subclasses of these are taken too, if they
            inherit ``forward``.
        unsuited: Qualified names of related classes that cannot be sliced exactly, each with the
            reason: they are reported as left out.
        part: Appended to the host's path to name the unit; empty when a host has one unit.
        methods: What a subclass of a host must inherit to be taken.
        spanning: Whether the host is a whole network, in which the unit is one among those of other
            adapters.
    """

    hosts: ClassVar[tuple[str, ...]]
    unsuited: ClassVar[dict[str, str]] = {}
    part: ClassVar[str] = ""
    methods: ClassVar[tuple[str, ...]] = ("forward",)
    spanning: ClassVar[bool] = False

    def split(self, host: nn.Module) -> Sequence["WidthAdapter"]:
        """One adapter for each group of dimensions in the host.

        A host with a fixed number of groups has a registered adapter for each; where the number
        depends on the host's settings, one registered adapter makes others of itself.
        """
        del host
        return (self,)

    def example(self, host: nn.Module) -> tuple | None:
        """Arguments for the host's forward, random numbers in float32, for the proof of hosts that a
        batch of images does not reach; None where there is no saying."""
        del host

    def claims(self, module: nn.Module) -> bool:
        """Whether ``module`` is a host or unsuited, or of a subclass of either."""
        return self._host_class(module) is not None

    def matches(self, module: nn.Module, path: str, network: nn.Module) -> bool:
        """Whether ``module``, at ``path`` in ``network``, is this adapter's, to score or to refuse.

        What a module is decides, unless an adapter overrides this.
        """
        del path, network
        return self.claims(module)

    def unsupported_context(self, module: nn.Module, path: str, network: nn.Module) -> str | None:
        """Why ``module`` carries no scores where it stands, or None; :meth:`refusal` judges it alone."""
        del module, path, network

    def layers(self, host: nn.Module) -> tuple[str, ...]:
        """Paths in the host of the layers that get smaller with the unit; ``''`` is the host."""
        del host
        return ("",)

    def cut(self, host: nn.Module) -> tuple[str, ...]:
        """Paths in the host of the layers that slicing replaces or changes; ``''`` is the host."""
        return self.layers(host)

    def unsupported_reason(self, host: nn.Module) -> str | None:
        """Why this host carries no scores, or None when it can.

        A layer is refused when slicing it might not be exact.
        """
        host_class = self._host_class(host)
        if reason := self.unsuited.get(qualified_name(host_class)):
            return reason
        return overridden(host, host_class, self.methods)

    @abstractmethod
    def unit(self, name: str, host: nn.Module) -> Unit:
        """Describe the dimensions of ``host`` under the name ``name``."""

    @abstractmethod
    def insert(self, host: nn.Module, alpha: Tensor) -> None:
        """Let ``host`` multiply its dimensions by ``alpha``, (size,), in place."""

    @abstractmethod
    def alpha(self, host: nn.Module) -> Tensor | None:
        """The scores that ``host`` refers to, (size,), or None when it carries none."""

    @abstractmethod
    def bind(self, host: nn.Module, alpha: Tensor) -> None:
        """Let ``host``, which carries scores, refer to ``alpha`` instead."""

    @abstractmethod
    def weight(self, host: nn.Module) -> Tensor:
        """The weight of ``host`` that writes the scored dimensions.

        (groups * size, inputs): row ``group * size + i`` writes dimension i of a group.
        """

    def scaled_weight(self, host: nn.Module) -> Tensor:
        """The weight that the scores multiply: dimension i's share of it times alpha_i is what counts.

        (groups * size, any): row ``group * size + i`` belongs to dimension i. By default :meth:`weight`.
        """
        return self.weight(host)

    def norm(self, host: nn.Module) -> str | None:
        """Path of the batch norm through which the dimensions pass last before they are read.

        None where there is none, or one for each of several writers.
        """
        del host

    def _host_class(self, module: nn.Module) -> type | None:
        return known_class(module, (*self.hosts, *self.unsuited))


class LayerAdapter(WidthAdapter):
    """An adapter whose host is cut by itself."""

    @abstractmethod
    def slice(self, host: nn.Module, kept: Tensor, alpha: Tensor | None) -> nn.Module:
        """A layer of the kept dimensions, their scores folded into its weights.

        Args:
            host: The layer, with or without scores. It may be changed.
            kept: (kept,) sorted indices of the dimensions to keep.
            alpha: (size,) scores to fold; None folds nothing.

        Returns:
            The layer to put in the host's place, possibly the host itself.
        """


def known_class(module: nn.Module, names: Container[str]) -> type | None:
    """The first class that ``module`` is of whose qualified name is among ``names``."""
    return next((cls for cls in type(module).__mro__ if qualified_name(cls) in names), None)


def overridden(module: nn.Module, cls: type, methods: Sequence[str] = ("forward",)) -> str | None:
    """Why ``module`` computes something else than ``cls`` does, or None."""
    for method in methods:
        own = vars(module).get(method)
        # Activation checkpointing replaces how, not what, a layer computes, and says so.
        changed = own is not None and not getattr(own, "same_function", False)
        if changed or getattr(type(module), method) is not getattr(cls, method):
            return (
                f"it has a {method} of its own in place of {cls.__name__}'s, so what its "
                "dimensions mean is not known"
            )
    return None


def random_input(*shape: int) -> Tensor:
    """Random numbers, always the same, for :meth:`WidthAdapter.example`."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


class LinearPairAdapter(LayerAdapter):
    """Hosts in which one linear layer writes the scored dimensions and another reads them.

    The writer's outputs are ``writer_groups`` groups of ``size`` dimensions, the reader's inputs
    ``reader_groups`` of them, and dimension i of every group shares alpha[i].

    Attributes:
        kind: Kind of the units, see :class:`~rarts_mm.widths.Unit`.
        writer, reader: Paths of the two layers in the host.
    """

    kind: ClassVar[str]
    writer: ClassVar[str]
    reader: ClassVar[str]

    @abstractmethod
    def writer_groups(self, host: nn.Module) -> int:
        """Groups of outputs of the writer."""

    @abstractmethod
    def reader_groups(self, host: nn.Module) -> int:
        """Groups of inputs of the reader."""

    def operations_outside(self, host: nn.Module) -> int:
        """Multiply-adds per token and dimension outside the two linear layers."""
        return 0

    def row_factors(self, host: nn.Module, size: int, kept: Tensor) -> Tensor | None:
        """Factors of the writer's kept rows, (writer_groups * kept,), that undo what the host makes
        of fewer dimensions; None where it makes nothing of it."""
        del host, size, kept

    def resized(
        self, host: nn.Module, size: int, writer: SlicedLinear, reader: SlicedLinear
    ) -> nn.Module:
        """The host with both layers replaced, adapted to ``size`` dimensions a group."""
        replace_submodule(host, self.writer, writer)
        replace_submodule(host, self.reader, reader)
        return host

    def example(self, host: nn.Module) -> tuple | None:
        """Tokens: what a host reads unless its adapter knows better."""
        return (random_input(2, 7, host.get_submodule(self.writer).in_features),)

    def unsupported_reason(self, host: nn.Module) -> str | None:
        if reason := super().unsupported_reason(host):
            return reason
        for path in (self.writer, self.reader):
            if reason := _not_plain(path, host.get_submodule(path)):
                return reason
        writer, reader = self._pair(host)
        size, rest = divmod(writer.out_features, self.writer_groups(host))
        if rest or reader.in_features != size * self.reader_groups(host):
            return (
                f"{writer.out_features} outputs of {self.writer} in {self.writer_groups(host)} "
                f"groups do not fit {reader.in_features} inputs of {self.reader} in "
                f"{self.reader_groups(host)}"
            )
        return None

    def cut(self, host: nn.Module) -> tuple[str, ...]:
        # All of it is counted, since the products between the two get smaller, too.
        return (self.writer, self.reader)

    def unit(self, name: str, host: nn.Module) -> Unit:
        writer, reader = self._pair(host)
        rows, columns = self.writer_groups(host), self.reader_groups(host)
        weights = rows * writer.in_features + columns * reader.out_features
        return Unit(
            name=name,
            kind=self.kind,
            size=writer.out_features // rows,
            parameters_per_score=weights + (0 if writer.bias is None else rows),
            operations_per_score=weights + self.operations_outside(host),
        )

    def insert(self, host: nn.Module, alpha: Tensor) -> None:
        writer, _ = self._pair(host)
        replace_submodule(
            host, self.writer, ScoredLinear.wrap(writer, alpha, self.writer_groups(host))
        )

    def alpha(self, host: nn.Module) -> Tensor | None:
        writer, _ = self._pair(host)
        return writer.alpha if isinstance(writer, ScoredLinear) else None

    def bind(self, host: nn.Module, alpha: Tensor) -> None:
        writer, _ = self._pair(host)
        writer.bind(alpha)

    def weight(self, host: nn.Module) -> Tensor:
        return self._pair(host)[0].weight

    def slice(self, host: nn.Module, kept: Tensor, alpha: Tensor | None) -> nn.Module:
        writer, reader = self._pair(host)
        rows, columns = self.writer_groups(host), self.reader_groups(host)
        size = writer.out_features // rows
        kept = kept.to(writer.weight.device)
        scale = None
        if alpha is not None:
            scale = alpha.detach().to(writer.weight)[kept].repeat(rows)
            factors = self.row_factors(host, size, kept)
            if factors is not None:
                scale = scale * factors.to(scale)
        return self.resized(
            host,
            len(kept),
            SlicedLinear.cut(writer, rows=_in_groups(kept, size, rows), scale=scale),
            SlicedLinear.cut(reader, columns=_in_groups(kept, size, columns)),
        )

    def _pair(self, host: nn.Module) -> tuple[nn.Linear, nn.Linear]:
        return host.get_submodule(self.writer), host.get_submodule(self.reader)


def replace_submodule(module: nn.Module, path: str, new: nn.Module) -> None:
    """Put ``new`` where ``module`` has its submodule ``path``."""
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, new)


def _in_groups(kept: Tensor, size: int, groups: int) -> Tensor:
    """Indices ``group * size + kept`` of all groups in turn: (groups * kept,)."""
    first = torch.arange(groups, device=kept.device) * size
    return (first[:, None] + kept).flatten()


def _not_plain(path: str, linear: nn.Module) -> str | None:
    """Why ``linear`` is more than ``x W^T + b``, or None."""
    known = qualified_name(type(linear)) in PLAIN_LINEARS
    if not known and not isinstance(linear, ScoredLinear) and type(linear) is not SlicedLinear:
        return f"its {path} is a {qualified_name(type(linear))}, not a plain linear layer"
    if set(linear._parameters) != {"weight", "bias"} or linear.weight is None:
        return f"its {path} computes its weight from other parameters"
    if linear._forward_hooks or linear._forward_pre_hooks or "forward" in vars(linear):
        return f"its {path} has hooks, which a replaced layer would lose"
    return None
