"""Scores on the outputs of convolutions, before their batch norms: the literal placement."""

import logging
from collections.abc import Iterator, Mapping

import torch
from mmengine.logging import print_log
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from rarts_mm.registry import SPACES

from ..adapters.channels import ChannelAdapter
from ..layers.scored_channels import ScoredChannels
from ..layers.scored_outputs import fold_outputs, score_outputs
from ..layers.shared_scores import SharedScores
from ..scores import Site, check_scores, sites_to_score
from .width import WidthSpace


@SPACES.register_module()
class PreNormSpace(WidthSpace):
    """Channels scored as they are printed: X~_i = alpha_i X_i, X_i the output map of a convolution
    (thesis, section 4.2), in front of the batch norm that follows.

    It is there for comparison, and warns. The batch norm divides alpha_i out again: scaling every score
    by a constant leaves the network's function in training as it is, so that a penalty on alpha shrinks
    it for nothing and the ranking means little. Nor does zero remove a channel: behind the norm it still
    emits the constant ReLU(beta - gamma mu / sigma). Pruning removes it all the same, as for the papers'
    tables, and the pruned network is proven against the one whose channel is zero where it is read.

    Units without a batch norm behind their writer are scored as in :class:`WidthSpace`. The arguments
    are its.
    """

    def insert(self, network: nn.Module) -> dict[str, nn.Parameter]:
        sites = sites_to_score(network, self.include, self.exclude, log=True)
        if any(isinstance(module, SharedScores | ScoredChannels) for module in network.modules()):
            raise ValueError("The network carries scores already.")
        alphas = {}
        for site in sites:
            weight = site.adapter.weight(site.host)
            alphas[site.unit.name] = nn.Parameter(weight.new_full((site.unit.size,), self.init))
        # A layer may read one unit and write another: what it reads is scored first.
        for site in sites:
            if not _writers(site):
                site.adapter.insert(site.host, alphas[site.unit.name])
        for site in sites:
            for writer in _writers(site):
                score_outputs(writer, alphas[site.unit.name])
        before = sum(bool(_writers(site)) for site in sites)
        print_log(
            f"PreNormSpace: {before} of {len(sites)} units are scored in front of a batch norm, which "
            "divides the score out again: the penalty shrinks it for nothing and the ranking means "
            "little. Use space=dict(type='WidthSpace') unless you want to see that.",
            logger="current",
            level=logging.WARNING,
        )
        return alphas

    def bind(self, network: nn.Module, alphas: Mapping[str, nn.Parameter]) -> None:
        sites = sites_to_score(network, self.include, self.exclude)
        check_scores(alphas, sites)
        for site in sites:
            alpha = alphas[site.unit.name]
            if writers := _writers(site):
                for writer in writers:
                    writer.refer(alpha, "output_alpha")
            else:
                site.adapter.bind(site.host, alpha)

    def move_to_readers(self, network: nn.Module) -> None:
        sites = sites_to_score(network, self.include, self.exclude)
        literal = [site for site in sites if _writers(site)]
        for site in literal:
            for writer in _writers(site):
                fold_outputs(writer)
        for site in literal:
            weight = site.adapter.weight(site.host)
            site.adapter.insert(site.host, torch.ones_like(weight[: site.unit.size, 0]))


def _writers(site: Site) -> list[nn.Module]:
    """What writes a unit's channels in front of a batch norm; empty where there is none."""
    if not isinstance(site.adapter, ChannelAdapter):
        return []
    group = site.adapter.channels(site.host)
    if not any(isinstance(layer, _BatchNorm) for layer in _layers(site.host, group.between)):
        return []
    return list(_layers(site.host, group.writers))


def _layers(host: nn.Module, paths: tuple[str, ...]) -> Iterator[nn.Module]:
    return (host.get_submodule(path) for path in paths)
