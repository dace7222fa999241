"""Scores on the channels of whole networks."""

import copy

import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from rarts_mm.registry import MODELS
from rarts_mm.widths import (
    ChannelSpace,
    insert_scores,
    masked,
    prove_slicing,
    pruned_config,
    scores_of,
    slice_network,
)
from rarts_mm.widths.flow import find_groups
from rarts_mm.widths.flow.attached import attach
from rarts_mm.widths.flow.uneven import make_uneven
from rarts_mm.widths.slicing import group_cut
from tests.widths.flow import networks

IMAGE = (2, 3, 16, 16)
CASES = {
    networks.Plain: IMAGE,
    networks.Residual: IMAGE,
    networks.SqueezeExcite: IMAGE,
    networks.CoordinateAttention: IMAGE,
    networks.Chunks: IMAGE,
    networks.Shuffle: IMAGE,
    networks.Twice: IMAGE,
    networks.SharedHead: IMAGE,
    networks.GroupedAndDepthwise: IMAGE,
    networks.Deformable: IMAGE,
    networks.Transposed: IMAGE,
    networks.Standardised: IMAGE,
    networks.Dense: IMAGE,
    networks.ConvNeXtLike: IMAGE,
    networks.Merging: IMAGE,
    networks.Attention: (2, 7, 6),
    networks.FusedAttention: (2, 7, 6),
}


def some_scores(alphas: dict[str, nn.Parameter]) -> dict[str, torch.Tensor]:
    """Give alpha values of both signs; returns which channels are to stay."""
    generator = torch.Generator().manual_seed(0)
    kept = {}
    with torch.no_grad():
        for name, alpha in alphas.items():
            alpha.copy_(1 + 0.7 * torch.randn(alpha.shape, generator=generator))
            order = torch.randperm(len(alpha), generator=generator)
            kept[name] = order[: max(int(0.6 * len(alpha)), 1)].sort().values
    return kept


def run(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    out = network(x)
    return torch.cat([each.flatten() for each in (out if isinstance(out, list | tuple) else [out])])


@pytest.fixture(params=CASES, ids=lambda kind: kind.__name__)
def scored(request):
    torch.manual_seed(0)
    network = make_uneven(request.param().double().eval())
    x = torch.randn(CASES[request.param], dtype=torch.float64)
    plain = run(network, x)
    groups = find_groups(network, x, scored=True)
    assert groups.groups
    attach(network, groups)
    return network, x, plain, insert_scores(network, "")


def test_scores_remove_fold_and_leave_plain_layers(scored):
    network, x, plain, alphas = scored
    names, classes = list(network.state_dict()), {p: type(m) for p, m in network.named_modules()}
    # Ones change nothing, whichever way they are multiplied.
    torch.testing.assert_close(run(network, x), plain, rtol=1e-12, atol=1e-12)
    kept = some_scores(alphas)
    with torch.no_grad():
        folded = run(network, x)
    torch.testing.assert_close(run(network, x), folded, rtol=1e-11, atol=1e-11)
    with masked(scores_of(network), kept):
        wanted = run(network, x)
    sliced = slice_network(copy.deepcopy(network), kept)
    torch.testing.assert_close(run(sliced, x), wanted, rtol=1e-11, atol=1e-11)
    left = [n for n in sliced.state_dict() if not n.endswith("input_scale")]
    assert left == names
    assert not any(type(m) is classes[p] for p, m in sliced.named_modules() if hasattr(m, "scored"))
    assert sum(p.numel() for p in sliced.parameters()) < sum(
        p.numel() for p in network.parameters()
    )


def test_gradients_of_scores_are_those_of_finite_differences(scored):
    network, x, _, alphas = scored
    some_scores(alphas)
    direction = torch.randn_like(run(network, x).detach())
    (run(network, x) * direction).sum().backward()
    step = 1e-6
    for alpha in alphas.values():
        channel = len(alpha) // 2
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                alpha[channel] += sign * step
                values.append((run(network, x) * direction).sum().item())
                alpha[channel] -= sign * step
        slope = (values[0] - values[1]) / (2 * step)
        assert alpha.grad[channel].item() == pytest.approx(slope, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        "resnet10t",
        *(
            pytest.param(n, marks=pytest.mark.slow)
            for n in ("mobilenetv3_small_050", "convnext_atto")
        ),
    ],
)
def test_networks_of_timm_are_proven_in_training_too(name):
    torch.manual_seed(0)
    network = make_uneven(timm.create_model(name)).eval()
    kept = some_scores(ChannelSpace().insert(network))
    proof = prove_slicing(network, kept, slice_network(copy.deepcopy(network), kept))
    assert proof.error_training is not None


def test_two_networks_share_scores():
    network = timm.create_model("resnet10t")
    space = ChannelSpace()
    alphas = space.insert(network)
    other = copy.deepcopy(network)
    assert scores_of(other)["layer1.0.conv1"] is not alphas["layer1.0.conv1"]
    space.bind(other, alphas)
    assert all(scores_of(other)[name] is alpha for name, alpha in alphas.items())
    assert not {id(p) for p in other.parameters()} & {id(a) for a in alphas.values()}


def test_what_is_searched_can_be_chosen():
    network = timm.create_model("resnet10t")
    inside = ChannelSpace(include="layer2").insert(copy.deepcopy(network))
    everything = ChannelSpace().units(network)[0]
    assert set(inside) < {unit.name for unit in everything}
    without = ChannelSpace(exclude="layer2").units(network)[0]
    assert not any(unit.name.startswith("layer2") for unit in without)
    with pytest.raises(ValueError, match=r"layer22.*Did you mean 'layer2'"):
        ChannelSpace(include="layer22").insert(network)


CLASSIFIER = dict(
    type="ImageClassifier",
    backbone=dict(type="MobileNetV2", widen_factor=0.25, out_indices=(7,)),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(type="LinearClsHead", num_classes=5, in_channels=1280),
)


def test_a_pruned_config_builds_the_layers_without_an_analysis(monkeypatch):
    init_default_scope("mmpretrain")
    torch.manual_seed(0)
    network = MODELS.build(copy.deepcopy(CLASSIFIER))
    network.eval()
    images = torch.randn(2, 3, 40, 32)
    cfg = CLASSIFIER
    for _ in range(2):
        # The second time, a pruned one is searched again.
        kept = some_scores(ChannelSpace().insert(network))
        cfg = pruned_config(cfg, kept, cut=group_cut(network, kept))
        network = slice_network(network, kept)
    text = Config(dict(model=cfg)).pretty_text
    monkeypatch.setattr("rarts_mm.widths.spaces.channel.find_groups", None)
    again = MODELS.build(Config.fromstring(text, ".py").model)
    assert len(cfg["cuts"]) == 2
    again.load_state_dict(network.state_dict())
    again.eval()
    with torch.no_grad():
        torch.testing.assert_close(again(images), network(images))
    # Weights of other widths are refused, also by MMEngine, which would only warn.
    with pytest.raises(RuntimeError, match="pruned layer's backbone"):
        again.load_state_dict(MODELS.build(copy.deepcopy(CLASSIFIER)).state_dict(), strict=False)
    with pytest.raises(ValueError, match="pruned as a whole"):
        pruned_config(cfg, {"backbone.layer1.0": [0]})
    damaged = copy.deepcopy(cfg)
    damaged["backbone"]["widen_factor"] = 0.1
    with pytest.raises(ValueError, match="when it was cut"):
        MODELS.build(damaged)


@pytest.mark.parametrize(
    "kind", [networks.FusedAttention, networks.TalkingHeads, networks.ChannelAttention]
)
def test_whole_heads_are_scored(kind):
    torch.manual_seed(0)
    network = make_uneven(kind().double().eval())
    x = torch.randn(2, 7, 6, dtype=torch.float64)
    groups = find_groups(network, x, scored=True, heads=True)
    assert groups.sizes["qkv"] == network.heads
    attach(network, groups)
    alphas = insert_scores(network, "")
    kept = some_scores(alphas)
    with masked(scores_of(network), kept):
        wanted = run(network, x)
    smaller = slice_network(copy.deepcopy(network), kept)
    assert smaller.heads == len(kept["qkv"]) < network.heads
    assert (run(smaller, x) - wanted).abs().max() <= 1e-12 * wanted.abs().max()
