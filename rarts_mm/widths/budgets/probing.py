"""Which parameters become smaller when a unit does."""

import copy
from collections import defaultdict

import torch
from torch import nn

from ..scores import scored_sites
from ..sharing import Sharing


def touched_parameters(network: nn.Module) -> dict[str, frozenset[str]]:
    """Name of a parameter, all of its names -> the units that it has a dimension for.

    Found by trying: a copy of each unit's layer is cut by one dimension. So it holds for every adapter
    without asking more of it.

    Args:
        network: A network with scores; not changed.
    """
    touched = defaultdict(set)
    sharing = Sharing(network)
    for site in scored_sites(network):
        host = copy.deepcopy(site.host)
        before = _sizes(host)
        size = site.unit.size
        if size == 1:
            # It cannot become smaller.
            continue
        after = _sizes(site.adapter.slice(host, torch.arange(size - 1), None))
        for name, numel in before.items():
            if after[name] != numel:
                for path in sharing.places(site.host):
                    touched[".".join(filter(None, (path, name)))].add(site.unit.name)
    return {name: frozenset(units) for name, units in touched.items()}


def _sizes(module: nn.Module) -> dict[str, int]:
    return {name: p.numel() for name, p in module.named_parameters(remove_duplicate=False)}
