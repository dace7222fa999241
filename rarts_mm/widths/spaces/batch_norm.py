"""The scales of batch norms as scores: Network Slimming."""

from collections.abc import Mapping

import torch
from torch import nn

from rarts_mm.registry import SPACES

from ..layers.scoring_norm import ScoringNorm, give_scale, take_scale
from ..naming import Names
from ..scores import Site, check_scores, sites_to_score
from .width import WidthSpace


@SPACES.register_module()
class BatchNormSpace(WidthSpace):
    """Alpha is the scale of the batch norm through which a unit's channels pass last.

    With joint training and an L1 penalty this is Network Slimming (Liu et al., ICCV 2017), the papers'
    baseline. A scale of zero leaves the constant ReLU(beta) of the norm's bias behind; pruning removes
    the channel, bias and all, and the pruned network is proven against the one whose channel is zero
    where it is read.

    Args:
        include, exclude: as for :class:`WidthSpace`.
        init: value of every scale where the search starts from random weights, 0.5 in Network Slimming;
            None leaves the network's own. A checkpoint that is loaded brings its own scales.

    Raises:
        ValueError: by ``insert``, where a unit has no batch norm of its own, or a frozen one.
    """

    def __init__(
        self, include: Names = "backbone", exclude: Names = (), init: float | None = None
    ) -> None:
        super().__init__(include, exclude, 1.0 if init is None else init)
        self.set_scales = init is not None

    def insert(self, network: nn.Module) -> dict[str, nn.Parameter]:
        sites = sites_to_score(network, self.include, self.exclude)
        norms = {site.unit.name: self._norm(site) for site in sites}
        alphas = {name: give_scale(norm) for name, norm in norms.items()}
        self.initialise(alphas)
        return alphas

    def initialise(self, alphas: Mapping[str, nn.Parameter]) -> None:
        """Set the scales to ``init``, which the networks' own initialisation does not know."""
        if self.set_scales:
            for alpha in alphas.values():
                nn.init.constant_(alpha, self.init)

    def bind(self, network: nn.Module, alphas: Mapping[str, nn.Parameter]) -> None:
        sites = sites_to_score(network, self.include, self.exclude)
        check_scores(alphas, sites)
        for site in sites:
            site.host.get_submodule(site.adapter.norm(site.host)).refer(alphas[site.unit.name])

    def settle(self, network: nn.Module) -> None:
        for site in sites_to_score(network, self.include, self.exclude):
            norm = site.host.get_submodule(site.adapter.norm(site.host))
            if isinstance(norm, ScoringNorm):
                take_scale(norm)
                site.adapter.insert(site.host, torch.ones_like(norm.weight.detach()))

    def _norm(self, site: Site) -> nn.Module:
        name, path = site.unit.name, site.adapter.norm(site.host)
        kind = name.rpartition(".")[2]
        remedy = f"Leave it out: model.space.exclude=['{name}'], or a pattern such as '*.{kind}'."
        norm = None if path is None else site.host.get_submodule(path)
        if norm is None or norm.weight is None:
            raise ValueError(
                f"BatchNormSpace: {name} ({site.unit.kind}) has no batch norm of its own, whose scales "
                f"could score it. {remedy}"
            )
        if isinstance(norm, ScoringNorm):
            raise ValueError(f"The network carries scores already; the first is {name}.")
        if not norm.weight.requires_grad:
            raise ValueError(
                f"BatchNormSpace: the batch norm {path} of {name} is frozen (frozen_stages, "
                f"norm_cfg.requires_grad), so its scales cannot be searched. {remedy}"
            )
        return norm
