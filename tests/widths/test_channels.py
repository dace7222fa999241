"""Channels of convolutional networks: masked and sliced networks agree, to the last rounding."""

import copy

import pytest
import torch
from mmengine.registry import init_default_scope
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from rarts_mm.registry import MODELS
from rarts_mm.widths import (
    PrunedModel,
    find_units,
    insert_scores,
    masked,
    pruned_config,
    rank_scores,
    scores_of,
    slice_network,
)
from rarts_mm.widths.layers.scored_channels import ScoredChannels
from tests.widths.comparing import difference, randomised, scored

TOLERANCE = 1e-10

BACKBONES = {
    "mmdet basic": dict(type="mmdet.ResNet", depth=18, base_channels=8, stem_channels=8),
    "mmdet bottleneck": dict(type="mmdet.ResNet", depth=50, base_channels=4, stem_channels=4),
    "mmdet caffe": dict(
        type="mmdet.ResNet", depth=50, base_channels=4, stem_channels=4, style="caffe"
    ),
    "mmdet frozen": dict(
        type="mmdet.ResNet",
        depth=18,
        base_channels=8,
        stem_channels=8,
        frozen_stages=2,
        norm_eval=True,
    ),
    "mmpretrain basic": dict(
        type="mmpretrain.ResNet_CIFAR", depth=18, base_channels=8, stem_channels=8
    ),
    "mmpretrain bottleneck": dict(
        type="mmpretrain.ResNet", depth=50, base_channels=16, stem_channels=8
    ),
    "mmpretrain d": dict(type="mmpretrain.ResNetV1d", depth=50, base_channels=16, stem_channels=8),
    "rarts_mm preresnet": dict(type="rarts_mm.PreResNet", depth=20, base_channels=4),
    "mmpretrain mobilenet": dict(type="mmpretrain.MobileNetV2", widen_factor=0.5),
    "mmdet mobilenet": dict(type="mmdet.MobileNetV2", widen_factor=0.5),
}
# conv1 (and conv2) of every block; of MobileNetV2's 17 blocks the first has no expansion.
UNITS = {
    "basic": 8,
    "bottleneck": 32,
    "caffe": 32,
    "frozen": 8,
    # And two in its deep stem.
    "d": 34,
    "mobilenet": 16,
    "preresnet": 18,
}


def build(name: str) -> nn.Module:
    """A backbone in float64 with random weights, norms and running statistics."""
    init_default_scope("mmdet")
    backbone = randomised(MODELS.build(dict(BACKBONES[name])))
    backbone.double()
    return backbone


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("train", [False, True])
def test_masked_and_sliced_agree(name, train):
    backbone = build(name)
    plain = copy.deepcopy(backbone)
    alphas = scored(backbone)
    assert len(alphas) == UNITS[name.split()[1]]
    assert backbone.state_dict().keys() == plain.state_dict().keys()
    kept = rank_scores(alphas, 0.4)
    for network in (backbone, plain):
        network.train(train)
    images = torch.randn(2, 3, 65, 97, dtype=torch.float64)
    sliced = slice_network(copy.deepcopy(backbone), kept)
    with torch.no_grad():
        whole = copy.deepcopy(backbone)(images)
        with masked(alphas, kept):
            expected = backbone(images)
        found = sliced(images)
    assert difference(expected, found) <= TOLERANCE
    assert difference(whole, expected) > 0.01
    assert not scores_of(sliced)
    assert not any(isinstance(m, ScoredChannels) for m in sliced.modules())
    # A selection's indices are all that slicing adds.
    added = sliced.state_dict().keys() - plain.state_dict().keys()
    assert all(key.endswith(".selected") for key in added)
    assert bool(added) == name.endswith("preresnet")
    assert not plain.state_dict().keys() - sliced.state_dict().keys()
    smaller = sum(p.numel() for p in sliced.parameters())
    assert smaller < 0.9 * sum(p.numel() for p in plain.parameters())
    # Running statistics that both passes have moved agree too, as far as they are there.
    state = sliced.state_dict()
    for unit, indices in kept.items():
        host = backbone.get_submodule(unit.rpartition(".")[0])
        if hasattr(host, "norm1") and unit.endswith("conv1"):
            wanted = host.norm1.running_mean[indices]
            torch.testing.assert_close(
                state[f"{unit.rpartition('.')[0]}.{host.norm1_name}.running_mean"], wanted
            )


def test_the_score_of_one_changes_nothing():
    for name in ("mmdet bottleneck", "mmpretrain mobilenet"):
        backbone = build(name)
        backbone.eval()
        images = torch.randn(2, 3, 65, 97, dtype=torch.float64)
        with torch.no_grad():
            before = backbone(images)
            insert_scores(backbone)
            assert difference(before, backbone(images)) == 0


def test_frozen_stages_stay_frozen():
    backbone = build("mmdet frozen")
    backbone.train()
    frozen = {n for n, p in backbone.named_parameters() if not p.requires_grad}
    assert any(n.startswith("layer2") for n in frozen)
    alphas = scored(backbone)
    sliced = slice_network(backbone, rank_scores(alphas, 0.4))
    sliced.train()
    assert {n for n, p in sliced.named_parameters() if not p.requires_grad} == frozen
    norms = [m for m in sliced.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert not any(m.training for m in norms)


@pytest.mark.parametrize("name", ["mmdet bottleneck", "mmpretrain mobilenet", "rarts_mm preresnet"])
def test_the_pruned_config_builds_what_was_sliced_and_takes_its_weights_only(name):
    backbone = build(name)
    kept = rank_scores(scored(backbone), 0.4)
    sliced = slice_network(copy.deepcopy(backbone), kept)
    init_default_scope("mmdet")
    cfg = pruned_config(dict(BACKBONES[name]), kept)
    cfg.pop("type")
    rebuilt = PrunedModel(**cfg).double()
    rebuilt.load_state_dict(sliced.state_dict())
    for network in (rebuilt, sliced):
        network.eval()
    images = torch.randn(2, 3, 65, 97, dtype=torch.float64)
    with torch.no_grad():
        assert difference(sliced(images), rebuilt(images)) == 0
    with pytest.raises(RuntimeError, match="different prunings"):
        rebuilt.load_state_dict(build(name).state_dict(), strict=False)


def test_costs_of_a_score_are_what_goes():
    for name in ("mmdet basic", "mmpretrain mobilenet", "rarts_mm preresnet"):
        backbone = build(name)
        units, _ = find_units(backbone)
        alphas = insert_scores(backbone)
        before = sum(p.numel() for p in backbone.parameters())
        first = units[0]
        kept = {u.name: range(u.size) for u in units} | {first.name: range(first.size - 1)}
        sliced = slice_network(backbone, kept, alphas)
        after = sum(p.numel() for p in sliced.parameters())
        assert before - after == first.parameters_per_score


def test_what_cannot_be_sliced_is_left_out_with_the_reason():
    init_default_scope("mmdet")
    grouped = MODELS.build(dict(type="mmdet.ResNeXt", depth=50, groups=4, base_width=4))
    units, left_out = find_units(grouped)
    assert not any(u.name.endswith("conv1") for u in units)
    assert any("groups" in layer.reason for layer in left_out)
    mobile = MODELS.build(dict(type="mmpretrain.MobileNetV2", widen_factor=0.5))
    _, left_out = find_units(mobile)
    assert [layer.name for layer in left_out] == ["layer1.0"]
    assert "no expansion" in left_out[0].reason


def test_preresnet_164_is_the_network_of_the_papers():
    backbone = MODELS.build(dict(type="rarts_mm.PreResNet"))
    head = nn.Linear(backbone.out_channels, 10)
    parameters = sum(p.numel() for module in (backbone, head) for p in module.parameters())
    assert parameters == 1_703_258
    with FlopCounterMode(display=False) as counter:
        head(backbone(torch.randn(1, 3, 32, 32))[0].mean((2, 3)))
    assert counter.get_total_flops() / 2 == 247_646_720
    units, left_out = find_units(backbone)
    assert not left_out
    sizes = {"bn1": 0, "bn2": 0, "bn3": 0}
    for unit in units:
        sizes[unit.name.rpartition(".")[2]] += unit.size
    assert sizes["bn2"] + sizes["bn3"] == 4_032
    # Network Slimming counts the 256 channels of the last batch norm as well: 12,112.
    assert sum(sizes.values()) == 12_112 - 256
    with pytest.raises(ValueError, match=r"depth=18 must be 9 n \+ 2"):
        MODELS.build(dict(type="rarts_mm.PreResNet", depth=18))
