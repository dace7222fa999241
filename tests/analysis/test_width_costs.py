"""The cost of widths as a polynomial equals what is counted on the sliced network."""

import copy

import pytest
import torch
from mmengine.registry import init_default_scope

from rarts_mm.analysis import count_flops, count_parameters
from rarts_mm.analysis.width_costs import WidthCosts
from rarts_mm.registry import MODELS
from rarts_mm.widths import slice_network
from tests.widths.comparing import scored


def classifier(backbone, channels):
    return dict(
        type="ImageClassifier",
        backbone=backbone,
        neck=dict(type="GlobalAveragePooling"),
        head=dict(type="LinearClsHead", num_classes=5, in_channels=channels),
    )


SWIN = dict(
    type="SwinTransformer",
    arch=dict(embed_dims=8, depths=[2, 1], num_heads=[2, 4]),
    window_size=3,
    img_size=36,
    out_indices=(1,),
)
VIT = dict(
    type="VisionTransformer",
    arch=dict(embed_dims=12, num_layers=2, num_heads=3, feedforward_channels=20),
    img_size=32,
    patch_size=8,
)
NETWORKS = {
    "swin": (classifier(SWIN, 16), (36, 36)),
    "vit": (dict(classifier(VIT, 12), neck=None), (32, 32)),
    "timm vit": (
        dict(
            type="TimmClassifier",
            model_name="vit_tiny_patch16_224",
            img_size=32,
            depth=2,
            embed_dim=24,
            num_classes=5,
        ),
        (32, 32),
    ),
    "resnet": (classifier(dict(type="ResNet", depth=50, base_channels=4), 128), (45, 37)),
    "mobilenet": (classifier(dict(type="MobileNetV2", widen_factor=0.1), 1280), (45, 37)),
    "preresnet": (classifier(dict(type="rarts_mm.PreResNet", depth=11), 256), (19, 15)),
    "convnext": (
        dict(
            classifier(
                dict(type="ConvNeXt", arch=dict(depths=[1, 2, 1, 1], channels=[4, 6, 8, 10])), 10
            ),
            neck=None,
        ),
        (65, 34),
    ),
}


def widths_of(alphas, seed):
    generator = torch.Generator().manual_seed(seed)
    kept = {}
    for name, alpha in alphas.items():
        size = alpha.numel()
        count = int(torch.randint(1, size + 1, (), generator=generator))
        kept[name] = torch.randperm(size, generator=generator)[:count].sort().values
    return kept


def check(network, alphas, size, of):
    costs = WidthCosts(network)
    parameters, flops = costs.parameters(of), costs.flops(size, of)
    counted = count_flops(network, size)
    assert parameters.whole == counted.parameters[of]
    assert flops.whole == counted.flops[of]
    for seed in range(2):
        kept = widths_of(alphas, seed)
        widths = {name: len(index) for name, index in kept.items()}
        sliced = slice_network(copy.deepcopy(network), kept)
        assert parameters(widths) == count_parameters(sliced.get_submodule(of))
        assert flops(widths) == count_flops(sliced, size).flops[of]
        # What one more dimension costs.
        for name in list(alphas)[:3]:
            if widths[name] < alphas[name].numel():
                more = dict(widths, **{name: widths[name] + 1})
                step = parameters.increase(widths, name, 1)
                assert step == pytest.approx(parameters(more) - parameters(widths), abs=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("of", ["", "backbone"])
def test_polynomial_equals_count(name, of):
    cfg, size = NETWORKS[name]
    if of and cfg["type"] == "TimmClassifier":
        pytest.skip("a TimmClassifier has no backbone")
    init_default_scope("mmpretrain")
    torch.manual_seed(0)
    network = MODELS.build(cfg)
    check(network, scored(network, "backbone"), size, of)


def test_polynomial_of_a_detector(small_detector):
    alphas = scored(small_detector, ["backbone", "neck", "rpn_head", "roi_head"])
    check(small_detector, alphas, (96, 96), "")


def test_costs_of_a_single_dimension():
    init_default_scope("mmpretrain")
    network = MODELS.build(NETWORKS["swin"][0])
    scored(network)
    costs = WidthCosts(network).parameters().per_dimension()
    # h (4 d + 3) in an attention and 2 d + 1 in an MLP (thesis, Table 4.3, with biases).
    assert costs["backbone.stages.0.blocks.0.attn.w_msa"] == pytest.approx(2 * (4 * 8 + 3))
    assert costs["backbone.stages.1.blocks.0.ffn"] == pytest.approx(2 * 16 + 1)
