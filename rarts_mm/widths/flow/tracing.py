"""Running a network while labels go beside its tensors."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from ..layers.sliced_norms import norm_kind
from .atoms import Atoms, Place
from .labels import Layers, compact, vector


class FlowError(ValueError):
    """A network cannot be run on the example, or nothing in it can be cut."""


class Product(NamedTuple):
    """Multiply-adds of one operation.

    Attributes:
        where: path of the module that it ran in.
        count: how many there are.
        vectors: atoms, in proportion to whose numbers they get fewer.
    """

    where: str
    count: int
    vectors: tuple[Tensor, ...]


class Call:
    """One operation, after it has run: what a rule looks at and labels.

    Attributes:
        name: of the operation without its overload and without the underscore of in-place variants:
            ``convolution``.
        args: its arguments by name, those left out with their defaults.
        out: what it returned.
        atoms: of the network.
        where: path of the module that it ran in.
    """

    def __init__(self, tracer: "Tracer", func: Any, args: tuple, kwargs: dict, out: Any) -> None:
        self._tracer = tracer
        self.func, self.positional, self.keywords, self.out = func, args, kwargs, out
        self.atoms = tracer.atoms
        self.where = tracer.where

    @property
    def name(self) -> str:
        return operation_name(self.func)

    @cached_property
    def args(self) -> dict[str, Any]:
        named = dict(self.keywords)
        for argument, value in zip(self.func._schema.arguments, self.positional, strict=False):
            named[argument.name] = value
        for argument in self.func._schema.arguments:
            if argument.has_default_value():
                named.setdefault(argument.name, argument.default_value)
        return named

    @cached_property
    def tensors(self) -> list[Tensor]:
        """All tensors among the arguments, in their order."""
        leaves = tree_leaves((self.positional, self.keywords))
        return [leaf for leaf in leaves if isinstance(leaf, Tensor)]

    @property
    def outputs(self) -> list[Tensor]:
        """All tensors that came out."""
        return [leaf for leaf in tree_leaves(self.out) if isinstance(leaf, Tensor)]

    def layers(self, tensor: Tensor | None) -> Layers:
        """The layers of a tensor; those of a parameter are made when it is first met."""
        return () if tensor is None else self._tracer.layers(tensor)

    def label(self, tensor: Tensor, layers: Layers) -> None:
        """Give a tensor its layers, each of length 1 or the tensor's along every dimension."""
        self._tracer.label(tensor, layers)

    def vector(self, tensor: Tensor | None, dim: int) -> tuple[Tensor | None, Layers]:
        """The atoms along one dimension of a tensor, and its other layers."""
        if tensor is None:
            return None, ()
        return vector(self.atoms, self.layers(tensor), dim)

    def freeze(self, layers: Layers | Tensor | None, reason: str) -> None:
        """These atoms cannot be cut: ``reason`` completes "it stays, as ..."."""
        if layers is None:
            return
        at = f" ({self.where})" if self.where else ""
        for layer in [layers] if isinstance(layers, Tensor) else layers:
            self.atoms.freeze(layer, reason + at)

    def norm(self, channels: Tensor) -> None:
        """A norm over channels: they can be cut where its module is one whose place another can take."""
        self._tracer.norm(self, channels)

    def multiplies(self, count: int, *vectors: Tensor | None) -> None:
        """Note multiply-adds, ``count`` of them, which fewer atoms of any of these vectors make fewer."""
        found = tuple(vector.reshape(-1) for vector in vectors if vector is not None)
        self._tracer.products.append(Product(self.where, count, found))

    def scaled_by(self, layers: Layers, heads: int) -> None:
        """Note that the operation, of so many heads, divides by the root of the number of these."""
        self._tracer.scaled += [(layer, heads) for layer in layers]

    def contracts(self, layers: Layers) -> None:
        """Note that the operation multiplies two maps and sums over these, so that no layer reads them."""
        self._tracer.contracted += layers
        self._tracer.attentions.setdefault(self.where, []).extend(layers)

    @property
    def whole_heads(self) -> bool:
        """Whether the heads of an attention go as a whole here, rather than dimensions of each."""
        return self.where in self._tracer.whole_heads

    def lengths_taken(self, source: Tensor, dim: int, length: int) -> set[int]:
        """The lengths of all slices of a tensor along a dimension so far, this one among them."""
        taken = self._tracer.slices.setdefault(source, {}).setdefault(dim, set())
        taken.add(length)
        return taken

    def splits(self, layer: Tensor) -> None:
        """Note that the operation takes these apart into dimensions that all have as many of them."""
        self._tracer.split.append((self.where, layer))

    def is_fixed(self, tensor: Tensor) -> bool:
        """Whether a tensor is a parameter or buffer, or computed from nothing else: a weight."""
        return self._tracer.is_fixed(tensor)

    def unite(self, first: Tensor | None, second: Tensor | None, reason: str) -> None:
        """Unite two vectors of atoms; one that has no partner is frozen."""
        if first is None or second is None:
            self.freeze(first if second is None else second, reason)
        else:
            at = f" ({self.where})" if self.where else ""
            self.atoms.unite(first, second, reason + at)


Rule = Callable[[Call], None]


class Tracer(TorchDispatchMode):
    """Carries labels beside the tensors of a network while it runs.

    Args:
        network: the network; its floating point parameters and buffers get atoms as they are met.
        rules: name of an operation -> its rule.
        fallback: the rule of operations that have none.
        atoms, places: those of an earlier run, for another one.
        removed: (number of atoms,) booleans by root: elements of these atoms are zero wherever an
            operation sums or normalises over them. The network then is the masked one.
        reading: name of an operation -> names of the arguments that it sums over.
        whole_heads: paths of the attentions whose heads go as a whole.
    """

    def __init__(
        self,
        network: nn.Module,
        rules: dict[str, Rule],
        fallback: Rule,
        atoms: Atoms | None = None,
        places: dict[tuple[str, int], Place] | None = None,
        removed: Tensor | None = None,
        reading: dict[str, tuple[str, ...]] | None = None,
        whole_heads: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.whole_heads = whole_heads
        # Module -> what it multiplies maps over; and what is taken apart into heads, with the module.
        self.attentions: dict[str, list[Tensor]] = {}
        self.split: list[tuple[str, Tensor]] = []
        # Tensor -> dimension -> lengths of its slices.
        self.slices: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.atoms = atoms or Atoms()
        self.places = places or {}
        self.norms: set[str] = set()
        self.scaled: list[tuple[Tensor, int]] = []
        self.contracted: list[Tensor] = []
        self.products: list[Product] = []
        self._network, self._rules, self._fallback = network, rules, fallback
        self._removed, self._reading = removed, reading or {}
        self._layers: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._paths: list[str] = []
        self.failed_in = ""
        self._names: dict[int, str] = {}
        self._fixed: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
            if tensor.is_floating_point():
                self._names.setdefault(id(tensor), name)

    @property
    def where(self) -> str:
        return self._paths[-1] if self._paths else ""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self._removed is not None:
            args, kwargs = self._masked(func, args, kwargs)
        self.failed_in = self.where
        out = func(*args, **kwargs)
        call = Call(self, func, args, kwargs, out)
        self._note_fixed(call)
        if any(self._is_labelled(tensor) for tensor in call.tensors):
            self._apply(self._rules.get(operation_name(func), self._fallback), call)
        return out

    def _note_fixed(self, call: Call) -> None:
        fixed = bool(call.tensors) and all(self.is_fixed(tensor) for tensor in call.tensors)
        for out in call.outputs:
            if fixed:
                self._fixed[out] = True
            else:
                # What data have been written into.
                self._fixed.pop(out, None)

    def _apply(self, rule: Rule, call: Call) -> None:
        try:
            rule(call)
        # Shapes or arguments that the rule was not made for.
        except (IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            for tensor in call.tensors:
                reason = f"the rule of {call.name} fails: {type(error).__name__}: {error}"
                call.freeze(self.layers(tensor), reason)

    def name_of(self, tensor: Tensor) -> str | None:
        """The name of a parameter or buffer; None for any other tensor."""
        return self._names.get(id(tensor))

    def is_fixed(self, tensor: Tensor) -> bool:
        return id(tensor) in self._names or tensor in self._fixed

    def layers(self, tensor: Tensor) -> Layers:
        if tensor in self._layers:
            return self._layers[tensor]
        name = self.name_of(tensor)
        if name is None:
            return ()
        layers = []
        for dim, size in enumerate(tensor.shape):
            if size > 1:
                place = self.places.get((name, dim))
                if place is None:
                    place = self.places[name, dim] = self.atoms.add(name, dim, size)
                shape = [1] * tensor.dim()
                shape[dim] = size
                layers.append(torch.arange(place.start, place.start + size).view(shape))
        return tuple(layers)

    def label(self, tensor: Tensor, layers: Layers) -> None:
        found = []
        for layer in layers:
            small = compact(self.atoms, layer)
            if small is None:
                continue
            if all(size == 1 for size in small.shape):
                if tensor.numel() > 1:
                    self.atoms.freeze(small, "all of its channels can only go together")
                continue
            found.append(small)
        self._layers[tensor] = tuple(found)

    def norm(self, call: Call, channels: Tensor) -> None:
        module = self._network.get_submodule(self.where)
        if norm_kind(module) and module.weight is not None:
            self.norms.add(self.where)
        else:
            call.freeze(channels, f"a {type(module).__name__} normalises over it")

    def _is_labelled(self, tensor: Tensor) -> bool:
        return bool(self._layers.get(tensor)) or id(tensor) in self._names

    def _masked(self, func: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """The arguments with zeros for what is removed, where the operation sums over them."""
        names = self._reading.get(operation_name(func))
        if not names:
            return args, kwargs
        args, kwargs = list(args), dict(kwargs)
        for number, argument in enumerate(func._schema.arguments):
            if argument.name not in names:
                continue
            if number < len(args):
                args[number] = self._zeroed(args[number])
            elif argument.name in kwargs:
                kwargs[argument.name] = self._zeroed(kwargs[argument.name])
        return tuple(args), kwargs

    def _zeroed(self, tensor: Tensor) -> Tensor:
        layers = self.layers(tensor)
        zeroed = tensor
        for layer in layers:
            gone = self._removed[self.atoms.roots(layer)]
            if gone.any():
                zeroed = zeroed.masked_fill(gone, 0)
        if zeroed is not tensor:
            self._layers[zeroed] = layers
        return zeroed

    @contextmanager
    def running(self) -> Iterator["Tracer"]:
        """Within the context the network's operations are watched, without gradients."""
        handles = []
        fast = torch.backends.mha.get_fastpath_enabled()
        # One operation for a whole encoder layer tells nothing.
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            for path, module in self._network.named_modules():
                handles.append(module.register_forward_pre_hook(self._enter(path)))
                handles.append(module.register_forward_hook(self._leave, always_call=True))
            with torch.no_grad(), self:
                yield self
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
            for handle in handles:
                handle.remove()

    def _enter(self, path: str) -> Callable[..., None]:
        def enter(module: nn.Module, args: tuple) -> None:
            self._paths.append(path)

        return enter

    def _leave(self, module: nn.Module, args: tuple, out: Any) -> None:
        self._paths.pop()


def operation_name(func: Any) -> str:
    """``relu`` for ``aten::relu_``, ``torchvision::roi_align`` for that of another library."""
    library, _, name = func._schema.name.partition("::")
    if name.endswith("_") and not name.endswith("__"):
        name = name[:-1]
    return name if library == "aten" else f"{library}::{name}"
