"""The proof that a sliced network trains as the masked one does.

Slicing is linear and element by element: each of its weights is a weight of the network with scores
times a factor, a folded score. So if both compute the same, the chain rule gives

    gradient of the masked network = factor * gradient of the sliced one

for every weight that stayed, and zero for those that went. A parameter that two layers share, and
slicing has made two, gets the sum of both gradients in one network and one of them in the other.
"""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .exactly import in_float64
from .flow.attached import attached
from .running import Forward, ProofError, call, converted, evaluation_copy, tensors_in
from .scores import Site, scored_sites
from .slicing import slice_network, slice_site

# Gradients below this share of the network's largest are rounding: that of a bias before a batch
# norm is zero.
FLOOR = 1e-4


def check_ties(scored: nn.Module, sliced: nn.Module) -> None:
    """Raise unless the same names share a parameter in both networks.

    Raises:
        ProofError: Slicing made two parameters of one, or one of two.
    """
    groups = _ties(scored), _ties(sliced)
    for first, second, what in (
        (*groups, "one parameter in the network with scores, but two in the sliced one"),
        (*groups[::-1], "two parameters in the network with scores, but one in the sliced one"),
    ):
        # Who stands in no group shares with itself alone.
        group_of = {name: group for group in second for name in group}
        for names in first:
            for name in names[1:]:
                if group_of.get(name, name) != group_of.get(names[0], names[0]):
                    raise ProofError(
                        f"{names[0]} and {name} are {what}: they would be trained in another way. "
                        "Leave the units of these layers out with model.space.exclude."
                    )


def training_difference(
    masked_network: nn.Module,
    kept: Mapping[str, Tensor],
    sliced: nn.Module,
    item: Any,
    forward: Forward | None = None,
) -> float | None:
    """How far two networks are apart in a step of training: gradients and running statistics.

    One forward and backward pass each, of a random linear function of the outputs, with batch norms in
    training mode and all that draws random numbers in evaluation mode. Neither network is changed.

    Args:
        masked_network: A network with scores in float64, those that are not kept being zero.
        kept: Unit name -> sorted indices of the dimensions that ``sliced`` keeps.
        sliced: What slicing makes of it, with the same weights, in float64.
        item: An input.
        forward: ``forward(network, input)``; ``network(input)`` by default.

    Returns:
        max |difference| / max |wanted|, worst parameter or buffer; None where the outputs have no
        gradients.
    """
    networks = [evaluation_copy(network, torch.float64) for network in (masked_network, sliced)]
    if not all(_step(network, converted(item, torch.float64), forward) for network in networks):
        return None
    reference, candidate = networks
    gradients, ones = copy.deepcopy(reference), copy.deepcopy(reference)
    with torch.no_grad():
        pairs = zip(reference.parameters(), gradients.parameters(), strict=True)
        for parameter, target in pairs:
            target.copy_(_gradient(parameter))
        for parameter in ones.parameters():
            parameter.fill_(1)
    # The units are those of the right weights: some are judged by the values of an activation's.
    sites = scored_sites(masked_network)
    wanted, factors = (_sliced(each, sites, kept).state_dict() for each in (gradients, ones))
    found = dict(candidate.named_parameters(remove_duplicate=False))
    largest = max((wanted[name].abs().max().item() for name in found), default=0.0)
    error = 0.0
    for name, parameter in found.items():
        # wanted = factor * gradient of the masked network, and that is factor * gradient.
        gradient = factors[name].square() * _gradient(parameter)
        error = max(error, _difference(wanted[name], gradient, FLOOR * largest))
    for name, buffer in candidate.named_buffers():
        if buffer.is_floating_point() and name in wanted:
            error = max(error, _difference(wanted[name], buffer, 0.0))
    return error


def _step(network: nn.Module, item: Any, forward: Forward | None) -> bool:
    """Fill ``.grad`` of all parameters; False where the outputs have no gradients."""
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.training = True
    network.requires_grad_(True)
    generator = torch.Generator().manual_seed(0)
    with torch.enable_grad(), in_float64():
        loss = 0.0
        for output in tensors_in((forward or call)(network, item)):
            direction = torch.randn(output.shape, generator=generator, dtype=output.dtype)
            if output.requires_grad:
                loss = loss + (output * direction.to(output.device)).sum() / output.numel() ** 0.5
        if isinstance(loss, Tensor):
            loss.backward()
    return isinstance(loss, Tensor)


def _sliced(network: nn.Module, sites: Iterable[Site], kept: Mapping[str, Tensor]) -> nn.Module:
    """``network``, a copy of the one that the sites are of with other weights, cut as that would be."""
    if attached(network) is not None:
        return slice_network(network, kept)
    for site in sites:
        indices = torch.as_tensor(kept[site.unit.name])
        network = slice_site(network, site, indices, site.adapter.alpha(site.host))
    return network


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _difference(wanted: Tensor, found: Tensor, floor: float) -> float:
    if not wanted.numel():
        return 0.0
    difference = (wanted - found).abs().max().item()
    scale = max(wanted.abs().max().item(), floor)
    if difference == 0:
        return 0.0
    # Also where one of them is not a number.
    return difference / scale if scale and difference < float("inf") else float("inf")


def _ties(network: nn.Module) -> list[tuple[str, ...]]:
    names: dict[int, list[str]] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [tuple(group) for group in names.values() if len(group) > 1]
