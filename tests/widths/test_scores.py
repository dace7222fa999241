import copy
import io

import pytest
import torch
from mmcv.cnn.bricks.transformer import FFN
from mmdet.models.backbones.swin import SwinTransformer, WindowMSA
from mmpretrain.models.backbones import SwinTransformerV2
from torch import nn

from rarts_mm.widths import (
    ScoredLinear,
    bind_scores,
    find_units,
    insert_scores,
    rank_scores,
    scores_of,
    slice_network,
)


def test_swin_t_has_the_thesis_counts():
    """T section 4.3: 384 attention scores, 17,664 MLP scores, costs of h (4 d + 3) and 2 d + 1."""
    network = SwinTransformer()
    assert sum(p.numel() for p in network.parameters()) == 27_520_698
    units, left_out = find_units(network)
    total = {"attention": 0, "mlp": 0}
    for unit in units:
        total[unit.kind] += unit.size
        layer = network.get_submodule(unit.name)
        d = layer.embed_dims
        if unit.kind == "attention":
            h = layer.num_heads
            assert unit.parameters_per_score == h * (4 * d + 3)
            assert unit.operations_per_score == h * (4 * d + 2 * 49)
        else:
            assert unit.parameters_per_score == 2 * d + 1
            assert unit.operations_per_score == 2 * d
    assert total == {"attention": 384, "mlp": 17_664}
    assert left_out == []


@pytest.mark.parametrize(("ratio", "expected"), [(0.2, 22.3e6), (0.4, 17.2e6)])
def test_random_scores_leave_the_known_size_of_swin_t(ratio, expected):
    network = SwinTransformer()
    alphas = insert_scores(network)
    units = {unit.name: unit for unit in find_units(network)[0]}
    generator = torch.Generator().manual_seed(0)
    for alpha in alphas.values():
        alpha.data = torch.randn(alpha.shape, generator=generator)
    before = sum(p.numel() for p in network.parameters())
    kept = rank_scores(alphas, ratio)
    after = sum(p.numel() for p in slice_network(network, kept).parameters())
    assert after == pytest.approx(expected, abs=0.9e6)
    removed = ((u.size - len(kept[u.name])) * u.parameters_per_score for u in units.values())
    assert before - after == sum(removed)


def test_units_are_named_by_path_and_grouped_by_stage(classifier):
    units, _ = find_units(classifier())
    assert [(u.name, u.kind, u.size) for u in units[:2]] == [
        ("backbone.stages.0.blocks.0.attn.w_msa", "attention", 8),
        ("backbone.stages.0.blocks.0.ffn", "mlp", 64),
    ]
    assert [u.stage for u in units] == ["backbone.stages.0"] * 4 + ["backbone.stages.1"] * 4


def test_scores_of_one_change_nothing(detection_swin):
    network = detection_swin()
    images = torch.randn(2, 3, 45, 38, dtype=torch.float64)
    with torch.no_grad():
        before = network(images)
        insert_scores(network)
        after = network(images)
    for a, b in zip(before, after, strict=True):
        # The sums of logits, bias and mask are taken in another order.
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_network_keeps_its_parameters_and_state_dict(detection_swin):
    network = detection_swin()
    plain = copy.deepcopy(network)
    parameters = dict(network.named_parameters())
    random_state = torch.get_rng_state()
    insert_scores(network)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert list(network.state_dict()) == list(plain.state_dict())
    scored = dict(network.named_parameters())
    assert list(scored) == list(parameters)
    assert all(scored[name] is parameters[name] for name in parameters)


def test_pretrained_weights_load_as_they_are(detection_swin, randomise, score):
    network, pretrained = detection_swin(), randomise(detection_swin(), seed=7)
    alphas = insert_scores(network)
    keys = network.load_state_dict(pretrained.state_dict(), strict=True)
    assert not keys.missing_keys
    assert not keys.unexpected_keys
    images = torch.randn(1, 3, 33, 41, dtype=torch.float64)
    with torch.no_grad():
        found, expected = network(images)[1], pretrained(images)[1]
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert all((alpha == 1).all() for alpha in alphas.values())


@pytest.mark.parametrize("trained", [False, True])
def test_training_flag_is_kept(detection_swin, trained):
    network = detection_swin()
    network.train(trained)
    insert_scores(network)
    scored = [m for m in network.modules() if isinstance(m, ScoredLinear)]
    assert scored
    assert all(m.training == trained for m in scored)


def test_score_multiplies_q_k_and_v_of_all_heads_behind_the_bias(randomise, score):
    """q~ = q A, k~ = k A, v~ = v A: the formula with an explicit diagonal matrix."""
    attention = randomise(WindowMSA(12, 3, (2, 2)))
    reference = copy.deepcopy(attention)
    (alpha,) = score(attention).values()
    x = torch.randn(5, 4, 12, dtype=torch.float64)
    q, k, v = reference.qkv(x).view(5, 4, 3, 3, 4).permute(2, 0, 3, 1, 4) @ alpha.diag()
    index = reference.relative_position_index
    bias = reference.relative_position_bias_table[index].permute(2, 0, 1)
    out = ((q @ k.mT) * 4**-0.5 + bias).softmax(-1) @ v
    expected = reference.proj(out.transpose(1, 2).reshape(5, 4, 12))
    assert torch.allclose(attention(x), expected, rtol=0, atol=1e-13)


def test_gradient_of_the_scores_by_finite_differences(randomise, score):
    network = nn.ModuleDict(
        {"attention": WindowMSA(6, 2, (2, 2)), "mlp": FFN(6, 7, act_cfg={"type": "GELU"})}
    )
    alphas = score(randomise(network))
    x = torch.randn(3, 4, 6, dtype=torch.float64)

    def output(*_):
        return network["mlp"](network["attention"](x))

    assert torch.autograd.gradcheck(output, tuple(alphas.values()))


def test_alpha_step_computes_no_weight_gradients(randomise, score):
    network = randomise(FFN(6, 7))
    (alpha,) = score(network).values()
    output = network(torch.randn(3, 6, dtype=torch.float64)).sum()
    output.backward(inputs=[alpha])
    assert alpha.grad is not None
    assert all(p.grad is None for p in network.parameters())


def test_two_networks_share_alpha_and_add_their_gradients(detection_swin, randomise, score):
    first = detection_swin()
    alphas = score(first)
    second = randomise(copy.deepcopy(first), seed=3)
    assert not any(a is b for a, b in zip(scores_of(second).values(), alphas.values(), strict=True))
    bind_scores(second, alphas)
    assert all(scores_of(second)[name] is alpha for name, alpha in alphas.items())

    images = torch.randn(1, 3, 33, 41, dtype=torch.float64)
    losses = [network(images)[1].square().sum() for network in (first, second)]
    separate = [torch.autograd.grad(loss, list(alphas.values())) for loss in losses]
    losses = [network(images)[1].square().sum() for network in (first, second)]
    sum(losses).backward()
    for alpha, one, two in zip(alphas.values(), *separate, strict=True):
        assert torch.allclose(alpha.grad, one + two, rtol=1e-12, atol=0)


class Owner(nn.Module):
    """Registers the scores of two networks, as the search model does."""

    def __init__(self, network):
        super().__init__()
        alphas = insert_scores(network)
        self.first = network
        self.second = copy.deepcopy(network)
        bind_scores(self.second, alphas)
        self.names = list(alphas)
        self.alphas = nn.ParameterList(alphas.values())

    def tied(self):
        return all(
            scores_of(network)[name] is alpha
            for network in (self.first, self.second)
            for name, alpha in zip(self.names, self.alphas, strict=True)
        )


def _pickled(owner):
    buffer = io.BytesIO()
    torch.save(owner, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize(
    "follow", [copy.deepcopy, _pickled, lambda owner: owner.float(), lambda owner: owner.to("cpu")]
)
def test_owner_and_networks_stay_tied(randomise, follow):
    owner = Owner(randomise(nn.ModuleDict({"mlp": FFN(4, 6)})))
    before = list(owner.alphas)
    followed = follow(owner)
    assert followed.tied()
    if followed is owner:
        assert all(a is b for a, b in zip(followed.alphas, before, strict=True))
    else:
        assert not any(a is b for a, b in zip(followed.alphas, before, strict=True))


def test_alpha_follows_a_lone_network_in_dtype(randomise, score):
    network = randomise(FFN(4, 6))
    (alpha,) = score(network).values()
    network(torch.randn(2, 4, dtype=torch.float64)).sum().backward()
    network.float()
    assert alpha.dtype == alpha.grad.dtype == torch.float32
    assert network(torch.randn(2, 4)).dtype == torch.float32


def test_scores_do_not_promote_under_autocast():
    network = FFN(4, 6)
    insert_scores(network)
    with torch.autocast("cpu", torch.bfloat16):
        assert network.layers[0][0](torch.randn(2, 4)).dtype == torch.bfloat16


def test_cosine_attention_is_left_out_and_its_mlps_are_scored():
    network = SwinTransformerV2(
        arch={"embed_dims": 8, "depths": [2], "num_heads": [2], "extra_norm_every_n_blocks": 0},
        img_size=32,
        window_size=4,
        out_indices=(0,),
    )
    units, left_out = find_units(network)
    assert {unit.kind for unit in units} == {"mlp"}
    assert len(units) == 2
    assert [layer.name for layer in left_out] == [
        "stages.0.blocks.0.attn.w_msa",
        "stages.0.blocks.1.attn.w_msa",
    ]
    assert "cosine" in left_out[0].reason


class Overridden(WindowMSA):
    def forward(self, x, mask=None):
        return super().forward(x, mask) + x


class Renamed(WindowMSA):
    pass


class LinearOfAnotherKind(nn.Linear):
    pass


def _ffn(change=lambda ffn: None, **kwargs):
    ffn = FFN(4, 6, **kwargs)
    change(ffn)
    return ffn


def _swap_between(module):
    return _ffn(lambda ffn: ffn.layers[0].__setitem__(1, module))


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (_ffn(num_fcs=3), "3 linear layers"),
        (_ffn(act_cfg={"type": "Sigmoid"}), "Sigmoid maps 0 to 0.5"),
        (_swap_between(nn.Softplus()), "Softplus maps 0 to 0.693"),
        (_swap_between(nn.LayerNorm(6, bias=False)), "per dimension"),
        (_swap_between(nn.LayerNorm(6, elementwise_affine=False)), "per dimension"),
        (_swap_between(nn.PReLU(6)), "per dimension"),
        (_swap_between(nn.GroupNorm(1, 6, affine=False)), "mixes"),
        (_ffn(lambda f: nn.utils.parametrizations.weight_norm(f.layers[0][0])), "not a plain"),
        (_ffn(lambda f: nn.utils.spectral_norm(f.layers[1])), "other parameters"),
        (_ffn(lambda f: f.layers.__setitem__(1, LinearOfAnotherKind(6, 4))), "LinearOfAnotherKind"),
        (_ffn(lambda f: f.layers[1].register_forward_hook(lambda *_: None)), "hooks"),
        (Overridden(4, 2, (2, 2)), "forward of its own"),
    ],
)
def test_what_cannot_be_sliced_exactly_is_left_out_with_a_reason(layer, reason):
    network = nn.ModuleDict({"layer": layer, "good": FFN(4, 6)})
    units, left_out = find_units(network)
    assert [unit.name for unit in units] == ["good"]
    assert left_out[0].name == "layer"
    assert reason in left_out[0].reason
    assert list(insert_scores(network)) == ["good"]


def test_subclass_with_inherited_forward_is_scored():
    assert [unit.size for unit in find_units(Renamed(4, 2, (2, 2)))[0]] == [2]


@pytest.mark.parametrize("act_cfg", [{"type": "PReLU"}, {"type": "SiLU"}, {"type": "ReLU6"}])
def test_elementwise_activations_are_scored(act_cfg):
    assert len(find_units(FFN(4, 6, act_cfg=act_cfg))[0]) == 1


def test_nothing_to_score_lists_what_was_looked_for_and_left_out():
    network = nn.ModuleDict({"layer": _ffn(num_fcs=3), "conv": nn.Conv2d(3, 3, 1)})
    with pytest.raises(ValueError, match="nothing to score") as error:
        insert_scores(network)
    assert "mmcv.cnn.bricks.transformer.FFN" in str(error.value)
    assert "mmdet.models.backbones.swin.WindowMSA" in str(error.value)
    assert "layer (FFN): it has 3 linear layers" in str(error.value)


def test_default_looks_into_the_backbone_only():
    network = nn.ModuleDict({"backbone": FFN(4, 6), "head": FFN(4, 8)})
    assert list(insert_scores(copy.deepcopy(network))) == ["backbone"]
    assert list(insert_scores(copy.deepcopy(network), include="head")) == ["head"]
    assert list(insert_scores(copy.deepcopy(network), include="")) == ["backbone", "head"]
    both = insert_scores(copy.deepcopy(network), include=["head", "backbone"])
    assert list(both) == ["backbone", "head"]


def test_unknown_include_offers_the_nearest_name():
    network = nn.ModuleDict({"backbone": FFN(4, 6), "bbox_head": FFN(4, 8)})
    with pytest.raises(ValueError, match=r"'box_head'.*'bbox_head'"):
        insert_scores(network, include="box_head")
    with pytest.raises(ValueError, match="names nothing to look into"):
        find_units(network, include=[])


def test_scores_twice_and_bad_initial_values_are_refused():
    network = FFN(4, 6)
    with pytest.raises(ValueError, match="finite"):
        insert_scores(network, init=float("nan"))
    insert_scores(network, init=0.5)
    assert (scores_of(network)[""] == 0.5).all()
    with pytest.raises(ValueError, match="carries scores already"):
        insert_scores(network)


def test_binding_checks_names_and_sizes_before_it_changes_anything():
    network = nn.ModuleDict({"first": FFN(4, 6), "second": FFN(4, 8)})
    with pytest.raises(ValueError, match="insert_scores"):
        bind_scores(network, {})
    alphas = insert_scores(network)
    others = {name: torch.zeros(alpha.numel()) for name, alpha in alphas.items()}
    with pytest.raises(ValueError, match=r"'secnd'.*'second'"):
        bind_scores(network, {"first": others["first"], "secnd": others["second"]})
    with pytest.raises(ValueError, match="no scores for 'second'"):
        bind_scores(network, {"first": others["first"]})
    with pytest.raises(ValueError, match=r"'second' have shape \(7,\)"):
        bind_scores(network, {"first": others["first"], "second": torch.zeros(7)})
    assert all(scores_of(network)[name] is alpha for name, alpha in alphas.items())
