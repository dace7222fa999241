"""The scales of batch norms as scores: Network Slimming."""

from collections.abc import Iterable, Mapping

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

    def refusals(self, network: nn.Module) -> dict[str, str]:
        return self._refusals(sites_to_score(network, self.include, self.exclude))

    def insert(self, network: nn.Module) -> dict[str, nn.Parameter]:
        sites = sites_to_score(network, self.include, self.exclude, log=True)
        for name, reason in self._refusals(sites).items():
            kind = name.rpartition(".")[2]
            raise ValueError(
                f"BatchNormSpace: {name}: {reason}. Leave it out: model.space.exclude=['{name}'], or a "
                f"pattern such as '*.{kind}'."
            )
        norms = {site.unit.name: _norm(site) for site in sites}
        for name, norm in norms.items():
            if isinstance(norm, ScoringNorm):
                raise ValueError(f"The network carries scores already; the first is {name}.")
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
            norm = _norm(site)
            if not isinstance(norm, ScoringNorm):
                # Another kind of norm has taken the place of the one with scores.
                give_scale(norm)
            norm.refer(alphas[site.unit.name])

    def move_to_readers(self, network: nn.Module) -> None:
        for site in sites_to_score(network, self.include, self.exclude):
            norm = site.host.get_submodule(site.adapter.norm(site.host))
            if isinstance(norm, ScoringNorm):
                take_scale(norm)
                site.adapter.insert(site.host, torch.ones_like(norm.weight.detach()))

    def _refusals(self, sites: Iterable[Site]) -> dict[str, str]:
        found = {site.unit.name: _refusal(site) for site in sites}
        return {name: reason for name, reason in found.items() if reason}


def _norm(site: Site) -> nn.Module | None:
    path = site.adapter.norm(site.host)
    return None if path is None else site.host.get_submodule(path)


def _refusal(site: Site) -> str | None:
    """Why a unit has no batch norm whose scales can be its scores, or None."""
    norm = _norm(site)
    if norm is None or norm.weight is None:
        return f"the {site.unit.kind} has no batch norm of its own, whose scales could score it"
    if not norm.weight.requires_grad:
        return (
            f"its batch norm {site.adapter.norm(site.host)} is frozen (frozen_stages, "
            "norm_cfg.requires_grad), so that the scales cannot be searched"
        )
    return None
