"""Groups of channels of a whole network, found by running it."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rarts_mm.registry import ADAPTERS

from ..flow.attached import attached
from ..flow.criteria import channel_weights
from ..flow.groups import ChannelGroup
from ..flow.scoring import carried, insert_group_scores, score_places, scored_layers
from ..layers.scored_channels import INPUTS, is_transposed
from ..unit import Unit
from .base import WidthAdapter


@ADAPTERS.register_module()
class GroupAdapter(WidthAdapter):
    """One score per channel of a group (:mod:`rarts_mm.widths.flow`), in a network that has them attached.

    The host is the network. Cutting is done for all groups at once, by
    :func:`~rarts_mm.widths.slice_network`, since what one group writes another one may read.

    Args:
        part: the group's name; empty for the registered adapter itself.
    """

    hosts = ()
    spanning = True

    def __init__(self, part: str = "") -> None:
        self.part = part

    def matches(self, module: nn.Module, path: str, network: nn.Module) -> bool:
        return module is network and attached(module) is not None

    def split(self, host: nn.Module) -> Sequence["GroupAdapter"]:
        return [GroupAdapter(name) for name in attached(host).groups]

    def layers(self, host: nn.Module) -> tuple[str, ...]:
        names = (name.rpartition(".")[0] for name in self._group(host).parameters)
        return tuple(dict.fromkeys(names))

    def cut(self, host: nn.Module) -> tuple[str, ...]:
        # What is used at several places is in the group with all of them.
        return ()

    def unsupported_reason(self, host: nn.Module) -> str | None:
        return None

    def unit(self, name: str, host: nn.Module) -> Unit:
        group = self._group(host)
        parameters = dict(host.named_parameters())
        sizes = {}
        for (parameter, dim), where in group.places.items():
            if parameter in parameters:
                shape = parameters[parameter].shape
                each = where.shape[1] * math.prod(shape) // shape[dim]
                sizes[parameter, dim] = each, len(shape)
        return Unit(
            name=name,
            kind="channel",
            size=group.size,
            parameters_per_score=sum(each for each, _ in sizes.values()),
            operations_per_score=sum(each for each, dims in sizes.values() if dims > 1),
            multiple=group.multiple,
        )

    def insert(self, host: nn.Module, alpha: Tensor) -> None:
        insert_group_scores(host, attached(host), self.part, alpha)

    def alpha(self, host: nn.Module) -> Tensor | None:
        return carried(host).get(self.part)

    def bind(self, host: nn.Module, alpha: Tensor) -> None:
        for _, layer in scored_layers(host):
            layer.rebind(self.part, alpha)

    def weight(self, host: nn.Module) -> Tensor:
        return channel_weights(dict(host.named_parameters()), self._group(host))

    def scaled_weight(self, host: nn.Module) -> Tensor:
        found = []
        for place in score_places(host, attached(host), self.part):
            weight = host.get_submodule(place.path).weight.detach().double()
            if weight.dim() > 1:
                dim = int((place.side == INPUTS) != is_transposed(host.get_submodule(place.path)))
                rows = weight.movedim(dim, 0)
                # Of a convolution in groups, the inputs of the first one stand for all.
                where = place.where % len(rows)
                found.append(rows[where].flatten(1))
        return torch.cat(found, 1) if found else self.weight(host)

    def _group(self, host: nn.Module) -> ChannelGroup:
        return attached(host).groups[self.part]
