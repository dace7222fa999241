"""The channels of whole networks as a search space."""

import copy

from torch import nn

from rarts_mm.registry import SPACES

from ..flow import find_groups
from ..flow.attached import attach, attached, detach
from ..flow.choosing import leave_out
from ..flow.detectors import example_of, with_visible_operators
from ..flow.groups import ALONE, Groups
from ..flow.rules.convolution import KERNEL
from ..flow.scoring import carried, scored_layers
from ..naming import EVERYWHERE, Names
from ..scores import find_units, insert_scores, log_left_out, scored_sites
from ..unit import LeftOut, Unit
from .width import WidthSpace


@SPACES.register_module()
class ChannelSpace(WidthSpace):
    """Alpha scores the channels of a whole network, whatever its layers are.

    The network is run once, and what of its channels can only go together has one score per channel
    (docs/any-module.md): the streams through backbone, neck and heads as well as what lies inside a layer.
    A score stands in front of every layer that sums over the channels, and in front of every norm over
    them, so that zero removes the channel exactly.

    Args:
        include: what is scored, by the layers that write it: paths of submodules, names of groups,
            patterns of names; the whole network by default.
        exclude: layers that shall stay as they are, in the same way.
        init: initial value of every score.
        heads: whether whole heads of attentions are scored rather than the dimensions that all heads have.

    Raises:
        ValueError: by its methods, where ``include`` or ``exclude`` name nothing in the network, or
            nothing in it can be cut.
    """

    def __init__(
        self,
        include: Names = EVERYWHERE,
        exclude: Names = (),
        init: float = 1.0,
        heads: bool = False,
    ) -> None:
        super().__init__(include, exclude, init)
        self.heads = heads

    def units(self, network: nn.Module) -> tuple[list[Unit], list[LeftOut]]:
        """The groups that are scored in a network, with or without scores, and what stays as it is."""
        groups = attached(network)
        if groups is not None:
            return [site.unit for site in scored_sites(network)], _left_out(groups)
        groups = self._find(network)
        attach(network, groups)
        try:
            return find_units(network, EVERYWHERE)[0], _left_out(groups)
        finally:
            detach(network)

    def insert(self, network: nn.Module) -> dict[str, nn.Parameter]:
        """Put scores into a network; return alpha by group (not registered in the network)."""
        if attached(network) is not None or carried(network):
            raise ValueError("The network carries scores already.")
        groups = self._find(network)
        log_left_out(_left_out(groups))
        attach(network, groups)
        return insert_scores(network, EVERYWHERE, self.init)

    def scored_weights(self, network: nn.Module) -> list[str]:
        """Names of the weights beside which alpha stands, in a network with scores."""
        return [f"{path}.weight" if path else "weight" for path, _ in scored_layers(network)]

    def _find(self, network: nn.Module) -> Groups:
        seen = with_visible_operators(copy.deepcopy(network))
        images, forward = example_of(seen)
        groups = find_groups(seen, images, forward, scored=True, heads=self.heads)
        if groups.groups:
            leave_out(network, groups, self.include, self.exclude)
        if not groups.groups:
            raise ValueError(
                f"There is nothing to score in the {type(network).__name__}.\n{groups}"
            )
        return groups


def _left_out(groups: Groups) -> list[LeftOut]:
    """What stays as it is, apart from what nobody would want to cut."""
    found = dict.fromkeys(
        LeftOut(frozen.name, f"{frozen.size} channels", frozen.reason)
        for frozen in groups.frozen
        if frozen.reason not in (ALONE, KERNEL)
    )
    return list(found)
