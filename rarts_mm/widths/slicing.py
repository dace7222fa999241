"""From a network with scores to a smaller one without."""

from collections.abc import Mapping

from torch import Tensor, nn

from .adapters.base import replace_submodule
from .flow.attached import attached, detach
from .flow.cutting import cut_network
from .flow.record import Cut
from .flow.scoring import fold_scores, norm_channels, scored_norms
from .kept import Kept, check_kept
from .scores import Site, bind_scores, check_scores, scored_sites


def slice_network(
    network: nn.Module, kept: Kept, alphas: Mapping[str, Tensor] | None = None
) -> nn.Module:
    """Make a network with scores physically smaller, in place.

    The kept scores are folded into weights and biases, so the result is an ordinary network with
    ordinary parameters under the original names, which computes what the network computed with the
    removed scores at zero. Optimisers that hold the old Parameters must be built anew.

    Args:
        network: A network with scores.
        kept: Unit name -> indices of the dimensions to keep, for all scored units.
        alphas: Unit name -> (size,) scores to fold; those the network refers to when None.

    Returns:
        ``network``, or its replacement when the network is itself a layer that has to be replaced.

    Raises:
        ValueError: The network carries no scores, or names, sizes or indices do not fit; nothing
            has been changed then.
    """
    sites = scored_sites(network)
    if not sites:
        raise ValueError("The network carries no scores, so there is nothing to slice by.")
    kept = check_kept(kept, {site.unit.name: site.unit.size for site in sites})
    if alphas is None:
        alphas = {site.unit.name: site.adapter.alpha(site.host) for site in sites}
    check_scores(alphas, sites)
    if attached(network) is not None:
        bind_scores(network, alphas)
        return cut_groups(network, kept)
    for site in sites:
        network = slice_site(network, site, kept[site.unit.name], alphas[site.unit.name])
    return network


def group_cut(network: nn.Module, kept: Mapping[str, Tensor]) -> Cut | None:
    """What slicing cuts of a network whose scores are on groups of channels; None of another network."""
    groups = attached(network)
    if groups is None:
        return None
    return Cut.of(groups, kept, scored_norms(network))


def cut_groups(network: nn.Module, kept: Mapping[str, Tensor]) -> nn.Module:
    """Slice a network whose scores are on groups of channels, all of them at once, in place."""
    groups, cut = attached(network), group_cut(network, kept)
    scales = fold_scores(network)
    network = cut_network(network, cut)
    left = norm_channels(groups, kept, scales)
    for path, scale in scales.items():
        network.get_submodule(path).input_scale.copy_(scale[left[path]])
    detach(network)
    return network


def slice_site(network: nn.Module, site: Site, kept: Tensor, alpha: Tensor | None) -> nn.Module:
    """Slice one unit; see :meth:`~rarts_mm.widths.adapters.LayerAdapter.slice`."""
    # Not site.host: an adapter of another part of the host may have replaced it.
    host = network.get_submodule(site.path)
    sliced = site.adapter.slice(host, kept, alpha)
    if not site.path:
        return sliced
    if sliced is not host:
        # One that stands at several places stays one.
        places = [p for p, m in network.named_modules(remove_duplicate=False) if m is host]
        for path in places:
            replace_submodule(network, path, sliced)
    return network
