"""Whole networks of the libraries: what is in groups, and that cut and masked networks agree."""

import copy

import pytest
import timm
import torch
from mmengine.registry import init_default_scope

from rarts_mm.registry import MODELS
from rarts_mm.widths.flow import find_groups
from rarts_mm.widths.flow.cutting import cut_network
from rarts_mm.widths.flow.record import Cut
from rarts_mm.widths.flow.watching import masked_outputs
from rarts_mm.widths.running import tensors_in

from .test_groups import some, uneven

SWIN = dict(depths=[1, 2, 1, 1], num_heads=[1, 2, 3, 6])


def swin(scope: str) -> torch.nn.Module:
    init_default_scope(scope)
    if scope == "mmdet":
        settings = dict(embed_dims=12, window_size=4, out_indices=(0, 2), **SWIN)
    else:
        settings = dict(
            arch=dict(embed_dims=12, **SWIN), img_size=64, window_size=4, pad_small_map=True
        )
    return MODELS.build(dict(type=f"{scope}.SwinTransformer", **settings))


NETWORKS = {
    "mmdet swin": (lambda: swin("mmdet"), (61, 50)),
    "mmpretrain swin": (lambda: swin("mmpretrain"), (64, 64)),
    "timm convnext": (
        lambda: timm.create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 12, 16, 20)),
        (64, 40),
    ),
    "timm mobilenet": (lambda: timm.create_model("mobilenetv3_small_050"), (64, 40)),
    "timm res2net": (lambda: timm.create_model("res2net50_26w_4s", layers=(1, 1, 1, 1)), (64, 40)),
    "timm densenet": (lambda: timm.create_model("densenet121", block_config=(2, 2)), (64, 40)),
    "timm cspdarknet": (lambda: timm.create_model("cs3darknet_s"), (64, 32)),
    "timm hrnet": (lambda: timm.create_model("hrnet_w18_small"), (64, 64)),
}
SLOW = ("timm res2net", "timm cspdarknet", "timm hrnet")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in NETWORKS]
)
def test_the_whole_network_is_cut(name):
    build, size = NETWORKS[name]
    torch.manual_seed(0)
    network = uneven(build())
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    groups = find_groups(network, images)
    held = {key for group in groups.groups.values() for key in group.parameters}
    total = sum(p.numel() for p in network.parameters())
    share = sum(p.numel() for n, p in network.named_parameters() if n in held) / total
    assert share > 0.97, str(groups)
    for ratio in (0.3, 0.6):
        kept = some(groups.sizes, ratio, seed=2)
        smaller = cut_network(copy.deepcopy(network), Cut.of(groups, kept))
        wanted = masked_outputs(network, groups, kept, images)
        with torch.no_grad():
            found = tensors_in(smaller(images))
        for a, b in zip(wanted, found, strict=True):
            assert (a - b).abs().max() <= 1e-11 * a.abs().max()
        left = sum(p.numel() for p in smaller.parameters()) / total
        assert left < 1 - ratio + 0.1
