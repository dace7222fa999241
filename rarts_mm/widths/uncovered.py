"""Layers that no adapter scores: all of them accounted for, with the reason."""

from collections import defaultdict
from collections.abc import Iterable

from torch import nn
from torch.nn.modules.conv import _ConvNd

from .adapters.base import WidthAdapter, known_class
from .unit import LeftOut

# They only hold or combine layers; whoever holds them says what the layers are for.
_CONTAINERS = (
    "torch.nn.modules.container.Sequential",
    "torch.nn.modules.container.ModuleList",
    "torch.nn.modules.container.ModuleDict",
    "mmengine.model.base_module.Sequential",
    "mmengine.model.base_module.ModuleList",
    "mmengine.model.base_module.ModuleDict",
    "mmcv.cnn.bricks.conv_module.ConvModule",
    "mmcv.cnn.bricks.depthwise_separable_conv_module.DepthwiseSeparableConvModule",
)

Claim = tuple[str, WidthAdapter]


def uncovered(network: nn.Module, claims: Iterable[Claim]) -> list[LeftOut]:
    """Convolutions and linear layers that take no part in any unit, by the class that holds them.

    Args:
        network: Any network.
        claims: Path of a host, adapter, for all units, those that are left out included.

    Returns:
        An entry for each class in each part (backbone, neck, ...): the paths' common beginning, the
        class, how many layers there are and why nothing scores them.
    """
    modules = dict(network.named_modules())
    covered: set[nn.Module] = set()
    hosts: set[str] = set()
    for path, adapter in claims:
        hosts |= {path, _owner(modules, path)}
        covered.update(_cut_by(adapter, modules[path]))
    layers: dict[tuple[str, str, bool], dict[str, list[nn.Module]]] = defaultdict(dict)
    for path, module in modules.items():
        if isinstance(module, _ConvNd | nn.Linear) and module not in covered:
            owner = _owner(modules, path.rpartition(".")[0]) if path else path
            key = owner.partition(".")[0], type(modules[owner]).__name__, owner in hosts
            layers[key].setdefault(owner, []).append(module)
    return [
        LeftOut(_common(list(owners)), kind, _reason(kind, owners, known))
        for (_, kind, known), owners in layers.items()
    ]


def _cut_by(adapter: WidthAdapter, host: nn.Module) -> Iterable[nn.Module]:
    """What an adapter would cut, or has looked at before it refused."""
    try:
        layers = [host.get_submodule(path) for path in adapter.cut(host)]
    except (AttributeError, LookupError):
        # It has other layers than the adapter knows, and has been refused for it.
        layers = [] if adapter.spanning else [host]
    return (module for layer in layers for module in layer.modules())


def _owner(modules: dict[str, nn.Module], path: str) -> str:
    """Path of the innermost module at or around ``path`` that is no mere container."""
    while path and known_class(modules[path], _CONTAINERS) is type(modules[path]):
        path = path.rpartition(".")[0]
    return path


def _reason(kind: str, owners: dict[str, list[nn.Module]], known: bool) -> str:
    layers = [layer for group in owners.values() for layer in group]
    linear = sum(isinstance(layer, nn.Linear) for layer in layers)
    counts = ((len(layers) - linear, "convolution"), (linear, "linear layer"))
    what = " and ".join(f"{n} {name}{'s' if n > 1 else ''}" for n, name in counts if n)
    where = f" in {len(owners)} of them" if len(owners) > 1 else ""
    if known:
        return f"{what}{where}: their outputs leave the {kind}, and channels between blocks are not scored"
    return f"{what}{where}: there is no adapter for {kind}"


def _common(paths: list[str]) -> str:
    """The beginning that paths have in common, in whole names."""
    if len(paths) == 1:
        return paths[0]
    common = []
    for names in zip(*(path.split(".") for path in paths), strict=False):
        if len(set(names)) > 1:
            break
        common.append(names[0])
    return ".".join(common)
