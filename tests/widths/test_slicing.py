import copy

import pytest
import torch
from mmcv.cnn.bricks.transformer import FFN
from mmdet.models.backbones.swin import WindowMSA as DetectionMSA
from mmpretrain.models.utils.attention import WindowMSA as PretrainMSA
from torch import nn

from rarts_mm.widths import (
    ScoredLinear,
    SlicedLinear,
    SlicedWindowMSA,
    find_units,
    insert_scores,
    masked,
    rank_scores,
    scores_of,
    slice_network,
)

TOLERANCE = 1e-10


def _difference(first, second):
    first = first if isinstance(first, list | tuple) else [first]
    second = second if isinstance(second, list | tuple) else [second]
    return max(
        ((a - b).abs().max() / a.abs().max()).item() for a, b in zip(first, second, strict=True)
    )


def _masked_and_sliced(network, alphas, kept, *inputs):
    sliced = slice_network(copy.deepcopy(network), kept)
    with torch.no_grad():
        with masked(alphas, kept):
            expected = network(*inputs)
        return expected, sliced(*inputs), sliced


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("size", [(97, 131), (30, 42), (122, 89)])
def test_detection_swin(detection_swin, score, size, train):
    network = detection_swin()
    alphas = score(network)
    network.train(train)
    kept = rank_scores(alphas, 0.4)
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    expected, found, sliced = _masked_and_sliced(network, alphas, kept, images)
    assert _difference(expected, found) <= TOLERANCE
    # Neither vacuous nor still scored: the mask matters, and the result is an ordinary network.
    assert _difference(network(images), expected) > 0.01
    assert not any(isinstance(m, ScoredLinear) for m in sliced.modules())
    assert [n for n, _ in sliced.named_parameters()] == [n for n, _ in network.named_parameters()]
    assert [n for n, _ in sliced.named_buffers()] == [n for n, _ in network.named_buffers()]


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("settings", [{"pad_small_map": True}, {}])
def test_pretrain_classifier(classifier, score, settings, train):
    network = classifier(stage_cfgs=settings)
    alphas = score(network)
    network.train(train)
    images = torch.randn(2, 3, 53, 46, dtype=torch.float64)
    kept = rank_scores(alphas, 0.6)
    expected, found, _ = _masked_and_sliced(network, alphas, kept, images)
    assert _difference(expected, found) <= TOLERANCE


@pytest.mark.parametrize("build", [DetectionMSA, PretrainMSA])
@pytest.mark.parametrize("options", [{}, {"qkv_bias": False}, {"qk_scale": 0.7}])
@pytest.mark.parametrize("masks", [None, 2])
@pytest.mark.parametrize("indices", [[1], [0, 3, 4], [0, 1, 2, 3, 4]])
def test_window_attention_alone(randomise, score, build, options, masks, indices):
    network = randomise(build(embed_dims=15, num_heads=3, window_size=(2, 3), **options))
    alphas = score(network)
    x = torch.randn(6, 6, 15, dtype=torch.float64)
    mask = None if masks is None else -100.0 * torch.randint(0, 2, (masks, 6, 6)).double()
    expected, found, sliced = _masked_and_sliced(network, alphas, {"": indices}, x, mask)
    assert isinstance(sliced, SlicedWindowMSA)
    assert sliced.head_dim == len(indices)
    assert sliced.qkv.weight.shape == (9 * len(indices), 15)
    assert sliced.proj.weight.shape == (15, 3 * len(indices))
    assert sliced.scale == network.scale
    assert _difference(expected, found) <= TOLERANCE


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        {"act_cfg": {"type": "GELU"}},
        {"act_cfg": {"type": "ReLU", "inplace": True}},
        {"act_cfg": {"type": "PReLU"}, "add_identity": False},
        {"act_cfg": {"type": "GELU"}, "layer_scale_init_value": 0.3},
    ],
)
def test_mlp_alone(randomise, score, settings, train):
    network = randomise(FFN(5, 9, **settings))
    network.train(train)
    alphas = score(network)
    x, identity = torch.randn(2, 4, 7, 5, dtype=torch.float64)
    expected, found, sliced = _masked_and_sliced(network, alphas, {"": [8, 0, 3]}, x, identity)
    assert sliced.feedforward_channels == 3
    assert sliced.training == sliced.layers[1].training == train
    assert _difference(expected, found) <= TOLERANCE


def test_dropouts_of_the_attention_are_kept(randomise, score):
    network = randomise(DetectionMSA(8, 2, (2, 2), attn_drop_rate=0.5, proj_drop_rate=0.5))
    network.train()
    alphas = score(network)
    sliced = slice_network(copy.deepcopy(network), {"": [0, 2]})
    x = torch.randn(3, 4, 8, dtype=torch.float64)
    with torch.no_grad(), masked(alphas, {"": [0, 2]}):
        torch.manual_seed(0)
        expected = network(x)
        torch.manual_seed(0)
        found = sliced(x)
    assert (expected == 0).any()
    assert _difference(expected, found) <= TOLERANCE


@pytest.mark.parametrize("remaining", [0.25, 0.5, 0.75])
def test_costs_at_uniform_ratio_equal_table_4_3(detection_swin, remaining):
    """T Table 4.3: W-MSA 4 r d^2 weights, MLP 2 r d d_m, and the operations that go with them."""
    network = detection_swin()
    insert_scores(network)
    before = {unit.name: unit for unit in find_units(network)[0]}
    widths = {name: network.get_submodule(name).embed_dims for name in before}
    kept = {name: range(round(remaining * unit.size)) for name, unit in before.items()}
    slice_network(network, kept)
    for name, unit in before.items():
        layer, d = network.get_submodule(name), widths[name]
        weights = sum(m.weight.numel() for m in layer.modules() if isinstance(m, nn.Linear))
        if unit.kind == "attention":
            assert weights == 4 * remaining * d**2
            # Per token: n = 1 in 4 r n d^2 + 2 r n M^2 d.
            operations = 4 * remaining * d**2 + 2 * remaining * 3**2 * d
        else:
            assert weights == 2 * remaining * d * unit.size
            operations = 2 * remaining * d * unit.size
        assert unit.operations_per_score * len(kept[name]) == operations


def test_given_scores_are_folded_in_place_of_the_networks_own(randomise):
    network = randomise(FFN(4, 6))
    insert_scores(network)
    given = {"": torch.linspace(-2, 3, 6, dtype=torch.float64)}
    sliced = slice_network(copy.deepcopy(network), {"": [0, 5]}, given)
    ((alpha,),) = (scores_of(network).values(),)
    with torch.no_grad():
        alpha.copy_(given[""])
        x = torch.randn(3, 4, dtype=torch.float64)
        with masked({"": alpha}, {"": [0, 5]}):
            assert _difference(network(x), sliced(x)) <= TOLERANCE


def test_frozen_weights_stay_frozen(detection_swin, score):
    network = detection_swin(frozen_stages=1)
    network.train()
    alphas = score(network)
    slice_network(network, rank_scores(alphas, 0.4))
    assert not any(p.requires_grad for p in network.stages[0].parameters())
    assert all(p.requires_grad for p in network.stages[1].parameters())


def test_pruned_network_can_be_searched_and_sliced_again(detection_swin, score):
    network = detection_swin()
    slice_network(network, rank_scores(score(network), 0.3))
    images = torch.randn(1, 3, 45, 38, dtype=torch.float64)
    with torch.no_grad():
        before = network(images)
        alphas = insert_scores(network)
        assert _difference(before, network(images)) == 0
    assert any(
        isinstance(m, SlicedLinear) and isinstance(m, ScoredLinear) for m in network.modules()
    )
    generator = torch.Generator().manual_seed(5)
    for alpha in alphas.values():
        alpha.data = torch.randn(alpha.shape, generator=generator).double()
    expected, found, _ = _masked_and_sliced(network, alphas, rank_scores(alphas, 0.5), images)
    assert _difference(expected, found) <= TOLERANCE


def test_mask_is_undone_after_an_exception(randomise, score):
    network = randomise(FFN(4, 6))
    alphas = score(network)
    values = alphas[""].detach().clone()

    def fail_while_masked():
        with masked(alphas, {"": [1, 2]}):
            assert alphas[""].nonzero().flatten().tolist() == [1, 2]
            raise KeyError

    with pytest.raises(KeyError):
        fail_while_masked()
    assert torch.equal(alphas[""], values)


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({}, "no kept dimensions for 'mlp'"),
        ({"mlp": [0], "mpl": [1]}, "'mpl'.*'mlp'"),
        ({"mlp": []}, "at least one"),
        ({"mlp": [0, 6]}, "from 0 to 5"),
        ({"mlp": [-1]}, "from 0 to 5"),
        ({"mlp": [1, 1]}, "distinct"),
        ({"mlp": [0.5]}, "indices"),
        ({"mlp": torch.ones(6, dtype=torch.bool)}, "indices"),
    ],
)
def test_bad_kept_indices_change_nothing(randomise, score, kept, message):
    network = nn.ModuleDict({"mlp": randomise(FFN(4, 6))})
    alphas = score(network)
    values = alphas["mlp"].detach().clone()
    with pytest.raises(ValueError, match=message):
        slice_network(network, kept)
    with pytest.raises(ValueError, match=message), masked(alphas, kept):
        pass
    assert torch.equal(alphas["mlp"], values)
    assert scores_of(network)["mlp"] is alphas["mlp"]


def test_slicing_needs_scores_that_fit():
    network = FFN(4, 6)
    with pytest.raises(ValueError, match="carries no scores"):
        slice_network(network, {"": [0]})
    insert_scores(network)
    with pytest.raises(ValueError, match="no scores for ''"):
        slice_network(network, {"": [0]}, {})
    with pytest.raises(ValueError, match=r"shape \(5,\)"):
        slice_network(network, {"": [0]}, {"": torch.ones(5)})
