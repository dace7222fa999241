"""Groups of channels in small networks: what is found, and that cut and masked networks agree."""

import copy

import pytest
import torch
from torch import nn

from rarts_mm.widths.flow import FlowError, find_groups
from rarts_mm.widths.flow.cutting import cut_network
from rarts_mm.widths.flow.record import Cut
from rarts_mm.widths.flow.uneven import make_uneven
from rarts_mm.widths.flow.watching import compute, masked_outputs, outputs_in

from . import networks

IMAGE = (2, 3, 15, 13)
INPUTS = {
    networks.TwoInputs: [IMAGE, (2, 1, 15, 13)],
    networks.ConvNeXtLike: [(2, 3, 16, 16)],
    networks.Attention: [(2, 7, 6)],
    networks.FusedAttention: [(2, 7, 6)],
    networks.TiedHeads: [(2, 7, 6)],
    networks.Transposed: [(2, 3, 16, 12)],
    networks.CosineAttention: [(2, 7, 6)],
    networks.WeightNormed: [(5, 6)],
    networks.RowsSummed: [(5, 6)],
    networks.ReducedAttention: [(2, 3, 10, 8)],
    networks.ChannelAttention: [(2, 7, 6)],
    networks.TalkingHeads: [(2, 7, 6)],
    networks.OwnParts: [(2, 7, 6)],
    networks.ProductElsewhere: [(2, 7, 6)],
}
# Network -> sizes of its groups by the layer that writes them first.
FOUND = {
    networks.Plain: {"0.0": 12, "1.0": 10},
    networks.Residual: {"stem.0": 12, "inner.0": 9, "down": 14},
    networks.SqueezeExcite: {"stem.0": 12, "less": 5},
    networks.CoordinateAttention: {"stem.0": 12, "shared.0": 6},
    networks.EfficientChannelAttention: {},
    networks.SpatialAttention: {},
    # Halves lose the same, and with the blocks nothing but their own.
    networks.Chunks: {"first.0": 6, "inner.0.0": 6, "inner.1.0": 6, "last.0": 8},
    networks.FixedSplit: {"last.0": 8},
    networks.Shuffle: {"first": 4, "grouped": 4},
    networks.Twice: {"first.0": 10},
    networks.SharedHead: {"stem.0": 8, "deeper.0": 12, "lateral.1": 9, "tower.0": 12},
    networks.GroupedAndDepthwise: {"0.0": 4, "1": 6},
    networks.Deformable: {"stem.0": 10, "deformed": 8},
    networks.Transposed: {"0.0": 8, "1": 4, "3": 4, "4": 4},
    networks.Standardised: {"weight": 10, "last": 8},
    networks.Dense: {"stem": 8, "blocks.0.2": 4, "blocks.1.2": 4, "blocks.2.2": 4},
    networks.TwoInputs: {"image.0": 10},
    networks.Branching: {"large.0": 8},
    networks.Filled: {"a": 6, "b": 6},
    networks.ConvNeXtLike: {"stem": 12, "first": 20},
    networks.Attention: {"stem": 12, "qkv": 8},
    networks.Clipped: {"a": 8},
    networks.Merging: {"stem": 6, "reduction": 8},
    networks.TiedHeads: {"stem": 6},
    networks.Gated: {"first": 8},
    networks.FusedAttention: {"stem": 12, "qkv": 8},
    networks.WeightNormed: {"weight": 8},
    networks.RowsSummed: {"weight": 8},
    networks.CosineAttention: {"stem": 12, "qkv": 6},
    networks.ReducedAttention: {"stem": 6},
    networks.Branches: {"first.0": 5, "inner.1.0": 5},
    networks.ChannelAttention: {"stem": 10, "qkv": 4},
    networks.TalkingHeads: {"stem": 10, "qkv": 5, "before": 4},
    networks.OwnParts: {"stem": 10, "qkv": 6},
    networks.DualPath: {"stem": 8, "stem:2": 4},
    networks.AsksItsBlock: {"blocks.0.layer": 8, "blocks.1.layer": 10},
    networks.AsksForFloat32: {"stem": 8},
}
REASONS = {
    networks.EfficientChannelAttention: "neighbouring positions",
    networks.SpatialAttention: "over channels",
    networks.FixedSplit: "cut on trial",
    networks.Standardised: "over channels",
    networks.WeightNormed: "linalg_vector_norm over channels",
    networks.RowsSummed: "sum over channels",
}


def uneven(network: nn.Module, seed: int = 0) -> nn.Module:
    """In float64 and evaluation mode."""
    # MMDetection's Swin returns None from eval().
    network.double().eval()
    return make_uneven(network, seed)


def example(kind: type, seed: int = 0) -> tuple:
    generator = torch.Generator().manual_seed(seed)
    shapes = INPUTS.get(kind, [IMAGE])
    return tuple(torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)


def call(network: nn.Module, inputs: tuple):
    return network(*inputs)


def some(sizes: dict[str, int], ratio: float, seed: int) -> dict[str, torch.Tensor]:
    """Indices of random channels that stay, at least one in each group."""
    generator = torch.Generator().manual_seed(seed)
    kept = {}
    for name, size in sizes.items():
        order = torch.randperm(size, generator=generator)
        kept[name] = order[: max(size - round(ratio * size), 1)].sort().values
    return kept


@pytest.fixture(scope="module", params=list(FOUND), ids=lambda kind: kind.__name__)
def case(request):
    network = uneven(request.param())
    inputs = example(request.param)
    return network, inputs, find_groups(network, inputs, call)


def test_what_is_found(case):
    network, _, groups = case
    assert groups.sizes == FOUND[type(network)]
    reason = REASONS.get(type(network))
    if reason is not None:
        assert any(reason in frozen.reason for frozen in groups.frozen), groups.frozen


@pytest.mark.parametrize("ratio", [0.3, 0.6, 0.99])
def test_cut_and_masked_networks_agree(case, ratio):
    network, inputs, groups = case
    kept = some(groups.sizes, ratio, seed=1)
    before = copy.deepcopy(network.state_dict())
    smaller = cut_network(copy.deepcopy(network), Cut.of(groups, kept))
    wanted = masked_outputs(network, groups, kept, inputs, call)
    with torch.no_grad():
        found = outputs_in(compute(smaller, inputs, call))
    for a, b in zip(wanted, found, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= 1e-11 * a.abs().max()
    # Nothing in the network itself is touched.
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    if groups.groups:
        count = [sum(p.numel() for p in n.parameters()) for n in (network, smaller)]
        assert count[1] < count[0]
        with torch.no_grad():
            whole = outputs_in(compute(network, inputs, call))
        # Cutting does change the function.
        assert any(not torch.allclose(a, b) for a, b in zip(whole, found, strict=True))


def test_every_parameter_is_in_a_group_frozen_or_not_run(case):
    network, _, groups = case
    told = {name for group in groups.groups.values() for name, _ in group.places}
    told |= {name for frozen in groups.frozen for name, _ in frozen.places} | set(groups.not_run)
    assert {name for name, p in network.named_parameters() if p.numel() > 1} <= told


def test_an_example_that_the_network_refuses_names_the_module():
    with pytest.raises(FlowError, match=r"in 0\.0 .*give one that it accepts"):
        find_groups(networks.Plain(), (torch.randn(1, 4, 9, 9),), call)


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        (networks.Attention, {"stem": 12}),
        (networks.FusedAttention, {"stem": 12, "qkv": 2}),
        (networks.TalkingHeads, {"stem": 10, "qkv": 4, "before": 4}),
        (networks.OwnParts, {"stem": 10, "qkv": 2}),
        (networks.ProductElsewhere, {"stem": 10, "qkv": 4}),
        # Heads as wide as the stream by their number: with each goes a part of the stream.
        (networks.ReducedAttention, {"stem": 2}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_whole_heads(kind, sizes):
    network, inputs = uneven(kind()), example(kind)
    groups = find_groups(network, inputs, call, heads=True)
    assert groups.sizes == sizes
    kept = some(groups.sizes, 0.5, seed=2)
    smaller = cut_network(copy.deepcopy(network), Cut.of(groups, kept))
    wanted = masked_outputs(network, groups, kept, inputs, call)
    with torch.no_grad():
        found = outputs_in(compute(smaller, inputs, call))
    for a, b in zip(wanted, found, strict=True):
        assert (a - b).abs().max() <= 1e-11 * a.abs().max()


def test_heads_are_asked_for_where_there_are_none():
    with pytest.raises(FlowError, match="heads=True: in the Plain there is no attention"):
        find_groups(networks.Plain(), example(networks.Plain), call, heads=True)
