"""Where the scores are: Network Slimming's batch norm scales, and the literal placement."""

import copy
import logging

import pytest
import torch
from mmengine.registry import init_default_scope

from rarts_mm.models import SearchModel
from rarts_mm.registry import MODELS
from rarts_mm.widths import (
    BatchNormSpace,
    PreNormSpace,
    WidthSpace,
    find_units,
    masked,
    prove_slicing,
    rank_scores,
    scores_of,
    slice_network,
)
from tests.widths.comparing import difference, randomised

NETWORKS = {
    "preresnet": dict(type="rarts_mm.PreResNet", depth=11, base_channels=4),
    "resnet": dict(type="ResNet", depth=50, base_channels=4, out_indices=(1, 3)),
    "mobilenet": dict(type="MobileNetV2", widen_factor=0.1),
}


def build(name, dtype=torch.float64):
    init_default_scope("mmpretrain")
    torch.manual_seed(0)
    return randomised(MODELS.build(NETWORKS[name])).to(dtype)


def images(dtype=torch.float64):
    return torch.randn(4, 3, 35, 29, dtype=dtype, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("name", NETWORKS)
def test_batch_norm_scales_are_the_scores(name):
    plain = build(name)
    plain.train()
    network = copy.deepcopy(plain)
    alphas = BatchNormSpace().insert(network)
    units, _ = find_units(plain)
    assert {n: len(a) for n, a in alphas.items()} == {u.name: u.size for u in units}
    # The same network, the same checkpoint format, but the scales are nobody's weights.
    assert difference(plain(images()), network(images())) == 0
    state = network.state_dict()
    assert set(state) == set(plain.state_dict())
    assert all(torch.equal(state[k], v) for k, v in plain.state_dict().items())
    own = {id(p) for p in network.parameters()}
    assert not own & {id(a) for a in alphas.values()}
    assert len(own) + len(alphas) == len(list(plain.parameters()))
    # Loading reaches alpha, in place.
    other = {k: torch.randn_like(v) if v.is_floating_point() else v for k, v in state.items()}
    network.load_state_dict(other)
    plain.load_state_dict(other)
    assert {id(a) for a in alphas.values()} == {
        id(m.alpha) for m in network.modules() if hasattr(m, "alpha")
    }
    assert difference(plain(images()), network(images())) == 0


@pytest.mark.parametrize("name", NETWORKS)
def test_network_slimming_is_sliced_exactly(name):
    """Removal means zero where the channel is read, whatever the norm's bias says."""
    network = build(name)
    network.eval()
    space = BatchNormSpace()
    alphas = {n: a.detach().clone() for n, a in space.insert(network).items()}
    before = network(images())
    space.move_to_readers(network)
    assert difference(before, network(images())) == 0
    assert all(bool((a == 1).all()) for a in scores_of(network).values())
    kept = rank_scores(alphas, 0.4)
    sliced = slice_network(copy.deepcopy(network), kept)
    assert prove_slicing(network, kept, sliced).error <= 1e-10
    with masked(scores_of(network), kept):
        assert difference(network(images()), sliced(images())) < 1e-10


def test_two_networks_can_share_the_scales():
    init_default_scope("mmpretrain")
    model = SearchModel(
        dict(
            type="ImageClassifier",
            backbone=NETWORKS["preresnet"],
            neck=dict(type="GlobalAveragePooling"),
            head=dict(type="LinearClsHead", num_classes=3, in_channels=64),
        ),
        space=dict(type="BatchNormSpace", exclude="backbone.bn", init=0.5),
    )
    model.init_weights()
    alphas = model.alpha_parameters()
    norms = dict(model.auxiliary.named_modules()), dict(model.primary.named_modules())
    for name, alpha in alphas.items():
        path = name if name.rpartition(".")[2].startswith("bn") else None
        if path:
            assert norms[0][path].weight is alpha is norms[1][path].weight
    twice = copy.deepcopy(model)
    twice.load_state_dict(model.state_dict())
    assert set(twice.alpha_parameters()) == set(alphas)


def test_what_has_no_norm_of_its_own_or_a_frozen_one_is_refused():
    init_default_scope("mmpretrain")
    swin = MODELS.build(
        dict(
            type="SwinTransformer",
            arch=dict(embed_dims=8, depths=[1, 1], num_heads=[2, 4]),
            img_size=28,
            out_indices=(1,),
        )
    )
    with pytest.raises(ValueError, match=r"has no batch norm of its own.*exclude=\['stages.0"):
        BatchNormSpace().insert(swin)
    assert len(BatchNormSpace().refusals(swin)) == 4
    frozen = MODELS.build(dict(NETWORKS["resnet"], frozen_stages=1))
    frozen.train()
    with pytest.raises(ValueError, match=r"layer1.0.conv1: its batch norm bn1 is frozen"):
        BatchNormSpace().insert(frozen)
    refused = BatchNormSpace().refusals(frozen)
    assert refused
    assert all(name.startswith("layer1.") for name in refused)
    space = BatchNormSpace(exclude="layer1")
    assert space.refusals(frozen) == {}
    space.insert(frozen)


def literal(name):
    network = build(name)
    space = PreNormSpace()
    alphas = space.insert(network)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for alpha in alphas.values():
            # Of either sign, and none so small that the norms' eps counts.
            alpha.copy_(torch.randn(alpha.shape, generator=generator, dtype=alpha.dtype))
            alpha.add_(alpha.sign())
    return network, space, alphas


def test_a_score_in_front_of_a_batch_norm_is_divided_out_again():
    """The degeneracy: every score can shrink, each by a factor of its own, and the function stays."""

    def shrink(alphas):
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for alpha in alphas.values():
                alpha.mul_(0.1 + 0.9 * torch.rand(alpha.shape, generator=generator))

    network, _, alphas = literal("resnet")
    network.train()
    before, penalty = network(images()), sum(a.abs().sum() for a in alphas.values())
    shrink(alphas)
    assert sum(a.abs().sum() for a in alphas.values()) < 0.6 * penalty
    assert difference(before, network(images())) < 0.01  # eps of the norms alone
    # Where the channel is read, the same factors count.
    exact = build("resnet")
    exact.train()
    scores = WidthSpace().insert(exact)
    before = exact(images())
    shrink(scores)
    assert difference(before, exact(images())) > 0.1


def test_a_zero_in_front_of_a_batch_norm_leaves_a_constant_behind():
    network, _, alphas = literal("resnet")
    network.eval()
    name = "layer1.0.conv1"
    with torch.no_grad():
        alphas[name].zero_()
    block = network.layer1[0]
    seen = {}
    block.conv2.register_forward_pre_hook(lambda m, args: seen.update(x=args[0]))
    network(images())
    norm = block.bn1
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    constant = torch.relu(norm.bias - scale * norm.running_mean)
    assert constant.max() > 0.1
    assert torch.allclose(seen["x"], constant[:, None, None].expand_as(seen["x"]))


@pytest.mark.parametrize("name", NETWORKS)
def test_literal_scores_settle_where_removal_is_exact(name):
    network, space, alphas = literal(name)
    network.eval()
    before = network(images())
    space.move_to_readers(network)
    assert difference(before, network(images())) < 1e-10
    assert not [m for m in network.modules() if type(m).__name__.startswith("OutputScored")]
    kept = rank_scores(alphas, 0.5)
    sliced = slice_network(copy.deepcopy(network), kept)
    assert prove_slicing(network, kept, sliced).error <= 1e-10


def test_literal_placement_warns(monkeypatch):
    messages = []
    monkeypatch.setattr(
        "rarts_mm.widths.spaces.pre_norm.print_log",
        lambda message, level, **kw: messages.append((level, message)),
    )
    PreNormSpace().insert(build("mobilenet"))
    ((level, message),) = messages
    assert level == logging.WARNING
    assert "divides the score out again" in message
    assert "16 of 16 units" in message
