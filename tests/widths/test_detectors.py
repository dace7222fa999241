"""Necks and heads of detectors: masked and sliced networks agree, and the proof reaches them."""

import copy

import pytest
import torch
from mmengine.registry import init_default_scope
from torch import nn

from rarts_mm.registry import MODELS
from rarts_mm.widths import (
    ProofError,
    find_units,
    masked,
    prove_slicing,
    rank_scores,
    scores_of,
    slice_network,
)
from tests.widths.comparing import difference, flat, randomised, scored

TOLERANCE = 1e-10


def fpn(**settings):
    return dict(type="FPN", in_channels=[8, 12, 16], out_channels=10, num_outs=3) | settings


def box_head(**settings):
    kind = dict(
        type="ConvFCBBoxHead",
        in_channels=10,
        conv_out_channels=6,
        fc_out_channels=14,
        roi_feat_size=3,
        num_classes=4,
    )
    return kind | settings


def mask_head(**settings):
    kind = dict(type="FCNMaskHead", num_convs=3, in_channels=10, conv_out_channels=6, num_classes=4)
    return kind | settings


HOSTS = {
    "fpn": (fpn(), 1),
    "fpn with norms": (fpn(norm_cfg=dict(type="BN"), act_cfg=dict(type="ReLU")), 1),
    "fpn on lateral": (fpn(num_outs=5, add_extra_convs="on_lateral"), 1),
    "fpn on input": (fpn(num_outs=5, add_extra_convs="on_input"), 1),
    "rpn": (dict(type="RPNHead", in_channels=10, feat_channels=12), 1),
    "rpn of two": (dict(type="RPNHead", in_channels=10, feat_channels=12, num_convs=2), 2),
    "box head, fc": (box_head(num_shared_fcs=2), 2),
    "box head, conv and fc": (
        box_head(num_shared_convs=2, num_shared_fcs=1, norm_cfg=dict(type="BN")),
        3,
    ),
    "box head, pooled": (box_head(num_shared_convs=1, num_shared_fcs=1, with_avg_pool=True), 2),
    "box head, branches": (
        box_head(num_shared_convs=1, num_cls_convs=1, num_cls_fcs=2, num_reg_convs=2),
        6,
    ),
    "mask head": (mask_head(), 4),
    "mask head, bilinear": (
        mask_head(upsample_cfg=dict(type="bilinear", scale_factor=2), num_convs=2),
        2,
    ),
}


def inputs_of(host: nn.Module) -> tuple:
    generator = torch.Generator().manual_seed(2)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    if hasattr(host, "lateral_convs"):
        sizes = ((13, 18), (7, 9), (4, 5))
        channels = (8, 12, 16)
        return ([draw(2, c, *s) for c, s in zip(channels, sizes, strict=True)],)
    if hasattr(host, "rpn_conv"):
        return ([draw(2, 10, 13, 17), draw(2, 10, 6, 9)],)
    return (draw(4, 10, *host.roi_feat_size),)


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("train", [False, True])
def test_masked_and_sliced_agree(name, train):
    init_default_scope("mmdet")
    cfg, number = HOSTS[name]
    host = randomised(MODELS.build(copy.deepcopy(cfg))).double()
    alphas = scored(host, include="")
    assert len(alphas) == number
    host.train(train)
    kept = rank_scores(alphas, 0.4)
    sliced = slice_network(copy.deepcopy(host), kept)
    arguments = inputs_of(host)
    with torch.no_grad():
        whole = flat(copy.deepcopy(host)(*copy.deepcopy(arguments)))
        with masked(alphas, kept):
            expected = flat(host(*copy.deepcopy(arguments)))
        found = flat(sliced(*copy.deepcopy(arguments)))
    assert difference(expected, found) <= TOLERANCE
    assert any(not torch.equal(a, b) for a, b in zip(whole, expected, strict=True))
    assert not scores_of(sliced)
    assert sum(p.numel() for p in sliced.parameters()) < sum(p.numel() for p in host.parameters())


def detector() -> nn.Module:
    from pathlib import Path

    from mmengine import Config

    configs = Path(__file__).parents[2] / "configs"
    cfg = Config.fromfile(configs / "_base_" / "cascade-mask-rcnn_swin-micro_shapes.py")
    init_default_scope("mmdet")
    return randomised(MODELS.build(cfg.model))


def test_the_proof_reaches_a_detectors_neck_and_heads():
    network = detector()
    include = ["backbone", "neck", "rpn_head", "roi_head"]
    alphas = scored(network, include)
    names = set(alphas)
    assert "neck.lateral_convs" in names
    assert "rpn_head.rpn_conv" in names
    assert any(n.startswith("roi_head.bbox_head.2.") for n in names)
    assert any(n.startswith("roi_head.mask_head") for n in names)
    kept = rank_scores(alphas, 0.4)
    sliced = slice_network(copy.deepcopy(network), kept)
    proof = prove_slicing(network, kept, sliced)
    assert proof.error <= TOLERANCE
    for part in ("rpn_head", "roi_head.bbox_head.0", "roi_head.bbox_head.2"):
        assert part in proof.compared

    # One wrong weight in a head is found.
    wrong = copy.deepcopy(sliced)
    with torch.no_grad():
        wrong.roi_head.bbox_head[1].fc_cls.weight[0, 0] += 0.1
    with pytest.raises(ProofError):
        prove_slicing(network, kept, wrong)


def test_most_of_a_detectors_cost_is_in_the_parts_that_can_be_named():
    network = detector()
    everything = sum(p.numel() for p in network.parameters())
    backbone, _ = find_units(network)
    units, _ = find_units(network, ["backbone", "neck", "rpn_head", "roi_head"])

    def prunable(units) -> int:
        return sum(u.size * u.parameters_per_score for u in units)

    assert prunable(backbone) < 0.8 * everything
    assert prunable(units) > 0.9 * everything
