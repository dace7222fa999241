import copy

import pytest
import torch
from mmcv.cnn.bricks.transformer import FFN
from mmdet.models.backbones.swin import SwinTransformer
from mmengine.model import BaseModel
from mmpretrain.models.backbones import SwinTransformerV2
from torch import nn

from rarts_mm.widths import (
    ProofError,
    ScoredLinear,
    SlicedLinear,
    SlicedWindowMSA,
    prove_equal,
    prove_slicing,
    rank_scores,
    slice_network,
)
from rarts_mm.widths.adapters import FFNAdapter


@pytest.fixture
def pruned(detection_swin, score):
    """A scored network, a plan, and what slicing makes of it, in a given dtype."""

    def build(dtype=torch.float64, ratio=0.4):
        network = detection_swin()
        alphas = score(network)
        network.to(dtype)
        kept = rank_scores(alphas, ratio)
        return network, kept, slice_network(copy.deepcopy(network), kept)

    return build


def _state(network, alphas=()):
    return [t.clone() for t in (*network.state_dict().values(), *alphas)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_slicing_is_proved_and_leaves_both_networks_alone(pruned, dtype):
    network, kept, sliced = pruned(dtype)
    network.train()
    alphas = [m.alpha for m in network.modules() if isinstance(m, ScoredLinear)]
    before = _state(network, alphas), _state(sliced)
    proof = prove_slicing(network, kept, sliced)
    assert proof.error <= 1e-12
    # On some processors the two networks round alike.
    assert 0 <= proof.error_float32 < 1e-4
    assert proof.inputs == ((2, 3, 97, 131), (2, 3, 122, 89))
    assert (proof.outputs, proof.compared) == (2, "")
    assert "float64" in str(proof)
    after = _state(network, alphas), _state(sliced)
    for old, new in zip(before, after, strict=True):
        assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(old, new, strict=True))
    assert network.training


def _recompute_scale(network):
    for module in network.modules():
        if isinstance(module, SlicedWindowMSA):
            module.scale = module.head_dim**-0.5


def _forget_bias_of_last_mlp(network):
    network.stages[-1].blocks[-1].ffn.layers[0][0].bias.data *= 1.5


def _swap_mlp_dimensions(network):
    weight = network.stages[0].blocks[0].ffn.layers[1].weight.data
    weight.copy_(weight.flip(1))


def _move_bias_table(network):
    network.stages[0].blocks[0].attn.w_msa.relative_position_bias_table.data += 1e-6


@pytest.mark.parametrize(
    "slip", [_recompute_scale, _forget_bias_of_last_mlp, _swap_mlp_dimensions, _move_bias_table]
)
def test_a_changed_network_is_refused(pruned, slip):
    network, kept, sliced = pruned()
    slip(sliced)
    with pytest.raises(ProofError):
        prove_slicing(network, kept, sliced)


@pytest.mark.parametrize("which", ["qkv", "ffn"])
def test_a_slice_that_does_not_fold_its_bias_is_refused(pruned, monkeypatch, which):
    """Also where slicing and checking share the slip: then the outputs tell."""
    network, kept, _ = pruned()
    right = SlicedLinear.cut.__func__
    rows_of_qkv = {3 * m.qkv.in_features for m in network.modules() if hasattr(m, "qkv")}

    def wrong(cls, linear, rows=None, columns=None, scale=None):
        sliced = right(cls, linear, rows, columns, scale)
        is_qkv = linear.out_features in rows_of_qkv
        if scale is not None and is_qkv == (which == "qkv"):
            sliced.bias.data = linear.bias[rows].clone()
        return sliced

    monkeypatch.setattr(SlicedLinear, "cut", classmethod(wrong))
    sliced = slice_network(copy.deepcopy(network), kept)
    with pytest.raises(ProofError, match="does not compute what the masked one computes"):
        prove_slicing(network, kept, sliced)


def test_another_plan_is_refused(pruned):
    network, kept, _ = pruned(ratio=0.4)
    _, _, sliced = pruned(ratio=0.3)
    with pytest.raises(ProofError, match="has shape"):
        prove_slicing(network, kept, sliced)


def test_unsliced_network_is_refused(pruned, detection_swin):
    network, kept, _ = pruned()
    with pytest.raises(ProofError):
        prove_slicing(network, kept, detection_swin())


def test_classifier_is_compared_at_its_backbone_with_images_it_accepts(classifier, score):
    """Without padding MMPretrain's Swin refuses maps smaller than a window."""
    network = classifier(window_size=7)
    kept = rank_scores(score(network), 0.4)
    proof = prove_slicing(network, kept, slice_network(copy.deepcopy(network), kept))
    assert proof.compared == "backbone"
    network = classifier(
        arch={"embed_dims": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]},
        window_size=7,
        out_indices=(3,),
    )
    kept = rank_scores(score(network), 0.4)
    proof = prove_slicing(network, kept, slice_network(copy.deepcopy(network), kept))
    assert proof.inputs == ((2, 3, 229, 261), (2, 3, 242, 233))


class Detector(BaseModel):
    """A model whose forward takes more than images, with its only unit in neck or head."""

    def __init__(self, place):
        super().__init__()
        self.backbone = nn.Conv2d(3, 4, 8, 8)
        self.neck = FFN(4, 6) if place == "neck" else nn.Identity()
        self.head = FFN(4, 6) if place == "head" else nn.Identity()

    def extract_feat(self, images):
        return self.neck(self.backbone(images).flatten(2).mT)

    def forward(self, inputs, data_samples, mode="tensor"):
        return self.head(self.extract_feat(inputs)) * len(data_samples)


def test_units_in_the_neck_are_compared_by_extract_feat(randomise, score):
    network = randomise(Detector("neck"))
    kept = rank_scores(score(network, include="neck"), 0.5)
    sliced = slice_network(copy.deepcopy(network), kept)
    assert prove_slicing(network, kept, sliced).error <= 1e-12


def test_units_in_a_head_need_inputs_of_their_own_or_a_forward(randomise, score, monkeypatch):
    network = randomise(Detector("head"))
    kept = rank_scores(score(network, include="head"), 0.5)
    sliced = slice_network(copy.deepcopy(network), kept)
    proof = prove_slicing(network, kept, sliced)
    assert (proof.compared, proof.inputs) == ("head", ((2, 7, 4),))
    monkeypatch.setattr(FFNAdapter, "example", lambda self, host: None)
    with pytest.raises(ProofError, match="give forward"):
        prove_slicing(network, kept, sliced)
    proof = prove_slicing(network, kept, sliced, forward=lambda net, x: net(x, [None, None]))
    assert proof.error <= 1e-12


def test_sizes_that_the_network_refuses(pruned):
    network, kept, sliced = pruned()
    network.patch_embed.projection.padding_mode = "nonsense"
    with pytest.raises(ProofError, match=r"none of the image sizes \[\(50, 61\)\]"):
        prove_slicing(network, kept, sliced, sizes=[(50, 61)])


@pytest.mark.parametrize("value", [1 + 1e-8, float("nan"), float("inf")])
def test_differences_above_rounding_and_nan_are_refused(value):
    first = nn.Linear(4, 3, dtype=torch.float64)
    first.weight.data.fill_(1)
    second = copy.deepcopy(first)
    x = [torch.ones(5, 4)]
    assert prove_equal(first, second, x).error == 0
    second.weight.data[0, 0] = value
    with pytest.raises(ProofError, match="does not compute"):
        prove_equal(first, second, x)


def test_nan_on_both_sides_and_nothing_compared_prove_nothing():
    network = nn.Linear(4, 3)
    with pytest.raises(ProofError):
        prove_equal(network, network, [])
    network.weight.data[0, 0] = float("nan")
    with pytest.raises(ProofError):
        prove_equal(network, network, [torch.ones(5, 4)])


def test_outputs_of_other_shapes_are_refused():
    with pytest.raises(ProofError, match="shapes"):
        prove_equal(nn.Linear(4, 3), nn.Linear(4, 2), [torch.randn(5, 4)])


@pytest.mark.slow
def test_full_swin_t_is_proved_in_single_precision(score):
    network = SwinTransformer()
    kept = rank_scores(score(network), 0.4)
    sliced = slice_network(copy.deepcopy(network), kept)
    proof = prove_slicing(network, kept, sliced, sizes=[(50, 61)])
    assert proof.error <= 1e-10
    assert proof.outputs == 4


def test_host_that_drops_buffers_on_loading(randomise, score):
    """Swin V2: only its MLPs are sliced, and its own state dict does not load back."""
    arch = {"embed_dims": 8, "depths": [2], "num_heads": [2], "extra_norm_every_n_blocks": 0}
    network = randomise(
        SwinTransformerV2(
            arch=arch, img_size=32, window_size=4, pad_small_map=True, out_indices=(0,)
        )
    )
    kept = rank_scores(score(network), 0.5)
    sliced = slice_network(copy.deepcopy(network), kept)
    assert prove_slicing(network, kept, sliced).error <= 1e-12
