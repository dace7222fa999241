"""Plain chains of convolutions: ``torch.nn.Sequential``, wherever it runs as a whole."""

import ast
import functools
import inspect
import textwrap
from collections.abc import Iterator, Mapping

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from rarts_mm.registry import ADAPTERS

from ..layers.cutting import is_depthwise
from .base import known_class, overridden, qualified_name, random_input
from .chains import ChainAdapter
from .channels import Channels, conv_module

_CONV_MODULE = ("mmcv.cnn.bricks.conv_module.ConvModule",)
_ACTIVATIONS = ("torch.nn.modules.activation.", "mmcv.cnn.bricks.", "timm.layers.activations")
# They act on each channel by itself and keep nothing that would have to be cut.
_PER_CHANNEL = (
    nn.Identity,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Dropout,
    nn.Dropout2d,
    nn.ZeroPad2d,
    nn.ReflectionPad2d,
    nn.ReplicationPad2d,
    nn.Upsample,
)
# What a parent may ask of a chain beside calling it: nothing of this looks at what is inside it.
_HARMLESS = {"eval", "named_parameters", "parameters", "requires_grad_", "train", "training"}


@ADAPTERS.register_module()
class SequentialAdapter(ChainAdapter):
    """One score per channel between two convolutions of a ``torch.nn.Sequential``.

    Between them may stand batch norms, activations, depthwise convolutions, poolings, dropout; MMCV's
    ``ConvModule`` counts as what is in it, and a ``Sequential`` inside as its layers. What a host of
    another adapter holds is that adapter's. A module that runs the layers of its ``Sequential`` one by
    one may use what lies between them, so the chain has to be called as a whole (:func:`not_called`).
    """

    hosts = ("torch.nn.modules.container.Sequential",)

    def matches(self, module: nn.Module, path: str, network: nn.Module) -> bool:
        if not self.claims(module) or not self.groups(module):
            return False
        others = [cls() for cls in ADAPTERS.module_dict.values() if cls is not type(self)]
        *ancestors, parent = _above(network, path)
        if parent is not None and known_class(parent, self.hosts) and not _own_forward(parent):
            return False
        return not any(
            adapter.claims(ancestor)
            for ancestor in (*ancestors, parent)
            if ancestor is not None
            for adapter in others
            if not adapter.spanning
        )

    def unsupported_context(self, module: nn.Module, path: str, network: nn.Module) -> str | None:
        *_, parent = _above(network, path)
        return None if parent is None else not_called(parent, path.rpartition(".")[2])

    def example(self, host: nn.Module) -> tuple | None:
        _, first = next(_flat(host))
        first = getattr(first, "conv", first)
        if not isinstance(first, nn.Conv2d | nn.ConvTranspose2d):
            return None
        return (random_input(2, first.in_channels, 65, 67),)

    def groups(self, host: nn.Module) -> Mapping[str, Channels]:
        groups: dict[str, Channels] = {}
        writer: str | None = None
        between: list[str] = []
        activations: list[str] = []
        items = list(_flat(host))
        if len({id(item) for _, item in items}) < len(items):
            # A layer that runs twice writes different channels under one name.
            return groups
        for path, item in items:
            layer, norms, acts = path, (), ()
            if known_class(item, _CONV_MODULE) and not overridden(
                item, known_class(item, _CONV_MODULE)
            ):
                try:
                    layer, norms, acts = conv_module(host, path)
                except LookupError:
                    writer = None
                    continue
            found = host.get_submodule(layer)
            if is_depthwise(found) or _is_norm(found):
                between.append(layer)
            elif isinstance(found, nn.Conv2d | nn.ConvTranspose2d):
                if writer is not None:
                    name = writer.removesuffix(".conv")
                    groups[name] = Channels((writer,), (layer,), tuple(between), tuple(activations))
                writer, between, activations = layer, [], []
            elif _is_activation(found):
                activations.append(layer)
            elif type(found) not in _PER_CHANNEL:
                writer = None
            between.extend(norms)
            activations.extend(acts)
        return groups


def not_called(parent: nn.Module, name: str) -> str | None:
    """Why it is not known that ``parent`` runs its child ``name`` as a whole, or None.

    By the parent's source: all of its methods but those that initialise set or call the child, or ask
    it for what does not look inside (its parameters, its mode).
    """
    what = type(parent).__name__
    if isinstance(parent, nn.ModuleList | nn.ModuleDict):
        return f"it stands in a {what}, and who uses that may run its layers one by one"
    called = False
    for cls in type(parent).__mro__:
        if cls is nn.Module:
            break
        uses = _uses(cls)
        if uses is None:
            return f"the source of {what}, in which it stands, cannot be read"
        if "look" in uses.get(name, ()):
            return f"{what}, in which it stands, may run its layers one by one"
        called |= "call" in uses.get(name, ())
    if not called:
        return f"{what}, in which it stands, does not call it by its name ({name})"
    return None


@functools.cache
def _uses(cls: type) -> dict[str, set[str]] | None:
    """How a class uses the attributes of ``self``: 'call', 'harmless', or 'look' for all else."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError, SyntaxError):
        return None
    uses: dict[str, set[str]] = {}
    methods = [m for m in tree.body[0].body if isinstance(m, ast.FunctionDef)]
    for method in methods:
        # __init__, init_weights, _init_layers: nothing runs there.
        if method.name.strip("_").startswith("init") or not method.args.args:
            continue
        own = method.args.args[0].arg
        above = {child: node for node in ast.walk(method) for child in ast.iter_child_nodes(node)}
        for node in ast.walk(method):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == own
            ):
                uses.setdefault(node.attr, set()).add(_kind(node, above[node]))
    return uses


def _kind(node: ast.Attribute, parent: ast.AST) -> str:
    if isinstance(parent, ast.Call) and parent.func is node:
        return "call"
    asked = isinstance(parent, ast.Attribute) and parent.attr in _HARMLESS
    if asked or isinstance(parent, ast.Compare) or isinstance(node.ctx, ast.Store | ast.Del):
        return "harmless"
    return "look"


def _above(network: nn.Module, path: str) -> list[nn.Module | None]:
    """The modules that hold ``path``, outermost first; [None] of the network itself."""
    parts = path.split(".") if path else []
    if not parts:
        return [None]
    return [network.get_submodule(".".join(parts[:i])) for i in range(len(parts))]


def _own_forward(module: nn.Module) -> bool:
    return overridden(module, nn.Sequential) is not None


def _flat(host: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    for name, item in host._modules.items():
        if isinstance(item, nn.Sequential) and not _own_forward(item):
            yield from _flat(item, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", item


def _is_norm(layer: nn.Module) -> bool:
    # The ones that mix channels are refused, with the reason.
    return isinstance(layer, _BatchNorm | nn.GroupNorm | nn.LayerNorm | nn.LocalResponseNorm)


def _is_activation(layer: nn.Module) -> bool:
    return qualified_name(type(layer)).startswith(_ACTIVATIONS) and not any(layer.children())
