"""Attention and MLPs of the libraries' transformers: masked and sliced networks agree."""

import copy
import itertools

import pytest
import timm
import torch
from mmengine.registry import init_default_scope
from torch import nn

from rarts_mm.registry import MODELS
from rarts_mm.widths import (
    find_units,
    insert_scores,
    masked,
    prove_slicing,
    rank_scores,
    scores_of,
    slice_network,
)
from tests.widths.comparing import difference, flat, scored

TOLERANCE = 1e-10
VIT = dict(embed_dim=24, depth=2, num_heads=3, img_size=32, patch_size=8, num_classes=5)
SWIN = dict(embed_dim=8, depths=(2, 2), num_heads=(1, 2), img_size=32, patch_size=2, window_size=4)

NETWORKS = {
    "mmpretrain vit": lambda: MODELS.build(
        dict(
            type="mmpretrain.VisionTransformer",
            arch=dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=50),
            img_size=32,
            patch_size=8,
        )
    ),
    "mmpretrain deit": lambda: MODELS.build(
        dict(
            type="mmpretrain.DistilledVisionTransformer",
            arch=dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=50),
            img_size=32,
            patch_size=8,
        )
    ),
    "mmpretrain convnext": lambda: MODELS.build(
        dict(type="mmpretrain.ConvNeXt", arch=dict(depths=[1, 2], channels=[8, 12]), out_indices=1)
    ),
    "mmpretrain convnext conv": lambda: MODELS.build(
        dict(
            type="mmpretrain.ConvNeXt",
            arch=dict(depths=[1, 2], channels=[8, 12]),
            out_indices=1,
            linear_pw_conv=False,
        )
    ),
    "timm vit": lambda: timm.models.VisionTransformer(**VIT),
    "timm swin": lambda: timm.models.SwinTransformer(**SWIN, num_classes=5),
    "wrapped timm": lambda: MODELS.build(
        dict(type="mmpretrain.TIMMBackbone", model_name="vit_tiny_patch16_224", img_size=64)
    ),
    "timm classifier": lambda: MODELS.build(
        dict(
            type="mmpretrain.TimmClassifier",
            model_name="swin_tiny_patch4_window7_224",
            img_size=32,
            window_size=2,
            embed_dim=12,
            depths=(1, 1, 1, 1),
            num_heads=(1, 2, 3, 4),
        )
    ),
}
UNITS = {
    "mmpretrain vit": 4,
    "mmpretrain deit": 4,
    "mmpretrain convnext": 3,
    "mmpretrain convnext conv": 3,
    "timm vit": 4,
    "timm swin": 8,
    "wrapped timm": 24,
    "timm classifier": 8,
}
SIZES = {"wrapped timm": 64, "mmpretrain convnext": 37, "mmpretrain convnext conv": 37}


def build(name: str) -> nn.Module:
    init_default_scope("mmpretrain")
    torch.manual_seed(0)
    network = NETWORKS[name]()
    with torch.no_grad():
        for parameter in network.parameters():
            scale = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.5
            parameter.copy_(torch.randn(parameter.shape) * scale)
    network.double()
    network.eval()
    return network


def outputs(network: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        return flat(network(images))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("fused", [True, False])
def test_masked_and_sliced_agree(name, fused):
    network = build(name)
    attentions = [m for m in network.modules() if hasattr(m, "fused_attn")]
    if not fused and not attentions:
        pytest.skip("has no choice of its own")
    for module in attentions:
        module.fused_attn = fused
    alphas = scored(network)
    assert len(alphas) == UNITS[name]
    kept = rank_scores(alphas, 0.4)
    size = SIZES.get(name, 32)
    images = torch.randn(2, 3, size, size, dtype=torch.float64)
    sliced = slice_network(copy.deepcopy(network), kept)
    whole = outputs(network, images)
    with masked(alphas, kept):
        expected = outputs(network, images)
    assert difference(expected, outputs(sliced, images)) <= TOLERANCE
    assert difference(whole, expected) > 0.01
    assert not scores_of(sliced)

    # Once more: a pruned network is searched and pruned like any other.
    again = insert_scores(sliced)
    with torch.no_grad():
        for alpha in again.values():
            alpha.copy_(torch.randn(alpha.shape))
    kept = rank_scores(again, 0.3)
    twice = slice_network(copy.deepcopy(sliced), kept)
    with masked(again, kept):
        expected = outputs(sliced, images)
    assert difference(expected, outputs(twice, images)) <= TOLERANCE


@pytest.mark.parametrize("name", ["mmpretrain vit", "timm vit", "timm swin"])
def test_the_proof_finds_a_size_that_the_network_takes(name):
    network = build(name).float()
    kept = rank_scores(scored(network), 0.4)
    sliced = slice_network(copy.deepcopy(network), kept)
    proof = prove_slicing(network, kept, sliced)
    assert proof.error <= TOLERANCE


def test_costs_of_a_score_are_what_goes():
    for name, part in itertools.product(("mmpretrain vit", "timm vit"), ("attn", "mlp")):
        network = build(name)
        units, _ = find_units(network)
        unit = next(u for u in units if (u.kind == "attention") == (part == "attn"))
        alphas = insert_scores(network)
        before = sum(p.numel() for p in network.parameters())
        kept = {u.name: range(u.size) for u in units} | {unit.name: range(unit.size - 1)}
        sliced = slice_network(network, kept, alphas)
        assert before - sum(p.numel() for p in sliced.parameters()) == unit.parameters_per_score


def test_what_cannot_be_sliced_is_left_out_with_the_reason():
    init_default_scope("mmpretrain")
    normed = timm.models.VisionTransformer(**VIT, qk_norm=True)
    units, left_out = find_units(normed)
    assert {u.kind for u in units} == {"mlp"}
    assert all("q_norm mixes" in layer.reason for layer in left_out)
    second = MODELS.build(
        dict(
            type="mmpretrain.ConvNeXt",
            arch=dict(depths=[1, 1], channels=[8, 12]),
            out_indices=1,
            use_grn=True,
        )
    )
    units, left_out = find_units(second)
    assert not units
    assert all("response normalisation" in layer.reason for layer in left_out)
