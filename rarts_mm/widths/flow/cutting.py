"""Cutting a network by its groups of channels."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.instancenorm import _InstanceNorm

from ..layers.sliced_norms import sliced_norm
from .groups import ChannelGroup, Factor, Number
from .hosts import free_hosts
from .record import Cut


def cut_network(network: nn.Module, cut: Cut) -> nn.Module:
    """Make a network physically smaller, in place.

    Layers keep their classes, and parameters their names; only norms over channels are replaced. What was
    one parameter stays one.

    Args:
        network: the network whose channels ``cut`` is about, or a copy.

    Returns:
        ``network``, or its replacement if it is itself a layer that has to be replaced.
    """
    network = free_hosts(network, cut.parameters)
    for name, group in cut.groups.items():
        for factor in group.factors:
            _multiply(network, group, factor, len(cut.kept[name]))
    names = {}
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        names.setdefault(id(tensor), name)
    left = _left(cut, network)
    done: dict[int, Tensor] = {}
    for path, module in list(network.named_modules()):
        before = _shape(module, "weight")
        norm = None
        for store in (module._parameters, module._buffers):
            for key, tensor in store.items():
                if tensor is None or id(tensor) not in names:
                    continue
                name = names[id(tensor)]
                cuts = left.get(name)
                if not cuts:
                    continue
                if id(tensor) not in done:
                    # A new object has the old one's id only after that is gone.
                    done[id(tensor)] = _selected(tensor, cuts)
                    names[id(done[id(tensor)])] = ""
                store[key] = done[id(tensor)]
                if path in cut.norms:
                    norm = next(iter(cuts.values()))
        if norm is None and path in cut.scaled:
            # Nothing of it goes, but the scores stay.
            norm = torch.arange(before[0], device=module.weight.device)
        if norm is not None:
            _replace(network, module, sliced_norm(module, norm, before[0], path in cut.scaled))
        else:
            _adapt(module, before)
    for name, group in cut.groups.items():
        for number in group.numbers:
            _write(network.get_submodule(number.path), number, len(cut.kept[name]))
    return network


def _write(module: nn.Module, number: Number, width: int) -> None:
    """Let a module know a width."""
    value = number.count * width
    if number.index is not None:
        old = getattr(module, number.attribute)
        kind = type(old)
        value = kind((*old[: number.index], value, *old[number.index + 1 :]))
    setattr(module, number.attribute, value)


def _multiply(network: nn.Module, group: ChannelGroup, factor: Factor, width: int) -> None:
    """Multiply the first part of the rows that a layer has of a group by sqrt(width / size)."""
    layer = network.get_submodule(factor.path)
    where = group.places[f"{factor.path}.weight", 0]
    first = (
        slice(0, None, factor.parts) if factor.of_each else slice(where.shape[1] // factor.parts)
    )
    rows = where[:, first].flatten()
    for key in ("weight", "bias"):
        tensor = getattr(layer, key)
        if tensor is not None:
            # A new one, as a copy of the network may share the old one.
            value = tensor.detach().clone()
            value[rows] *= (width / group.size) ** 0.5
            _put(network, tensor, nn.Parameter(value, requires_grad=tensor.requires_grad))


def _left(cut: Cut, network: nn.Module) -> dict[str, dict[int, Tensor]]:
    """Parameter -> dimension -> the indices that stay, for all that get shorter."""
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    gone: dict[tuple[str, int], Tensor] = {}
    for name, group in cut.groups.items():
        out = torch.ones(group.size, dtype=torch.bool)
        out[cut.kept[name]] = False
        for key, where in group.places.items():
            size = tensors[key[0]].shape[key[1]]
            gone.setdefault(key, torch.zeros(size, dtype=torch.bool))
            gone[key][where[out].flatten()] = True
    left: dict[str, dict[int, Tensor]] = {}
    for (name, dim), mask in gone.items():
        left.setdefault(name, {})[dim] = (~mask).nonzero().flatten()
    return left


def _selected(tensor: Tensor, cuts: Mapping[int, Tensor]) -> Tensor:
    with torch.no_grad():
        value = tensor.detach()
        for dim, index in cuts.items():
            value = value.index_select(dim, index.to(value.device))
        value = value.contiguous()
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(value, requires_grad=tensor.requires_grad)
    return value


def _shape(module: nn.Module, key: str) -> tuple[int, ...]:
    tensor = getattr(module, key, None)
    return tuple(tensor.shape) if isinstance(tensor, Tensor) else ()


def _adapt(module: nn.Module, before: tuple[int, ...]) -> None:
    """Let the numbers that a layer of torch keeps beside its weights fit them again."""
    after = _shape(module, "weight")
    if isinstance(module, _ConvNd) and after != before:
        # First the dimension that all groups share, then that of one group.
        whole, part = after[0], after[1]
        if before[1] == 1 and module.groups > 1:
            module.groups = module.groups * whole // before[0]
        part *= module.groups
        transposed = isinstance(module, _ConvTransposeNd)
        module.out_channels, module.in_channels = (part, whole) if transposed else (whole, part)
    elif isinstance(module, nn.Linear) and len(after) == 2:
        module.out_features, module.in_features = after
    elif isinstance(module, _BatchNorm | _InstanceNorm):
        for key in ("weight", "running_mean"):
            if shape := _shape(module, key):
                module.num_features = shape[0]
    elif isinstance(module, nn.PReLU):
        module.num_parameters = after[0]
    elif isinstance(module, nn.Embedding):
        module.embedding_dim = after[1]


def _put(network: nn.Module, old: nn.Parameter, new: nn.Parameter) -> None:
    """Put ``new`` wherever the parameter ``old`` stands."""
    for module in network.modules():
        for key, parameter in module._parameters.items():
            if parameter is old:
                module._parameters[key] = new


def _replace(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put ``new`` wherever ``old`` stands."""
    for module in network.modules():
        for key, child in module._modules.items():
            if child is old:
                module._modules[key] = new
