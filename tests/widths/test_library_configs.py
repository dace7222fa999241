"""The libraries' own configs, at reduced widths: masked and sliced networks agree in both modes."""

import copy
from pathlib import Path

import mmdet
import mmpretrain
import pytest
import torch
from mmdet.models.backbones.resnet import BasicBlock
from mmdet.models.layers import ResLayer
from mmdet.structures import DetDataSample
from mmengine import Config
from mmengine.registry import init_default_scope
from torch import nn

from rarts_mm.registry import MODELS
from rarts_mm.widths import (
    ProofError,
    find_units,
    prove_slicing,
    pruned_config,
    rank_scores,
    slice_network,
)
from tests.widths.comparing import flat, randomised, scored, sliced_agrees

RESNET = dict(base_channels=8, stem_channels=8)
VIT = dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=50)
SWIN = dict(embed_dims=12, depths=[1, 2, 1, 1], num_heads=[1, 2, 3, 6])

# Config, changes of it, image size (odd where the network takes it), number of units.
CLASSIFIERS = {
    "resnet18": ("resnet/resnet18_8xb32_in1k.py", dict(backbone=RESNET), (65, 97), 8),
    "resnet50": ("resnet/resnet50_8xb32_in1k.py", dict(backbone=RESNET), (65, 97), 32),
    # Two more in the deep stem.
    "resnetv1d50": ("resnet/resnetv1d50_8xb32_in1k.py", dict(backbone=RESNET), (65, 97), 34),
    "resnet50 cifar": ("resnet/resnet50_8xb16_cifar10.py", dict(backbone=RESNET), (33, 35), 32),
    "mobilenet v2": (
        "mobilenet_v2/mobilenet-v2_8xb32_in1k.py",
        dict(backbone=dict(widen_factor=0.5)),
        (65, 97),
        16,
    ),
    "vgg16": (
        "vgg/vgg16_8xb32_in1k.py",
        dict(backbone=dict(num_classes=-1), head=None),
        (67, 45),
        12,
    ),
    "vgg11bn": (
        "vgg/vgg11bn_8xb32_in1k.py",
        dict(backbone=dict(num_classes=-1, out_indices=(0, 4)), head=None),
        (67, 45),
        6,
    ),
    "convnext": (
        "convnext/convnext-tiny_32xb128_in1k.py",
        dict(backbone=dict(arch=dict(depths=[1, 1, 2, 1], channels=[8, 12, 16, 20]))),
        (65, 97),
        5,
    ),
    "vit": (
        "vision_transformer/vit-base-p16_64xb64_in1k.py",
        # Dropout between the layers of an MLP draws by the MLP's width.
        dict(backbone=dict(arch=VIT, img_size=48, drop_rate=0.0)),
        (48, 48),
        4,
    ),
    "deit": (
        "deit/deit-tiny_4xb256_in1k.py",
        dict(backbone=dict(arch=VIT, img_size=48)),
        (48, 48),
        4,
    ),
    "deit distilled": (
        "deit/deit-tiny-distilled_4xb256_in1k.py",
        dict(backbone=dict(arch=VIT, img_size=48)),
        (48, 48),
        4,
    ),
    "swin": (
        "swin_transformer/swin-tiny_16xb64_in1k.py",
        dict(backbone=dict(arch=SWIN, window_size=3)),
        (65, 97),
        10,
    ),
}


def classifier(name: str) -> tuple[nn.Module, tuple[int, int], int]:
    path, changes, size, units = CLASSIFIERS[name]
    init_default_scope("mmpretrain")
    cfg = Config.fromfile(Path(mmpretrain.__file__).parent / ".mim/configs" / path)
    model = cfg.model
    model.pop("train_cfg", None)
    _merge(model, changes)
    if model.get("head"):
        # The width that the backbone has now.
        features = flat(MODELS.build(copy.deepcopy(model.backbone))(torch.zeros(2, 3, *size)))
        model.head.update(in_channels=features[-1].shape[1], num_classes=7)
    return randomised(MODELS.build(model)).double(), size, units


def _merge(cfg: Config, changes: dict) -> None:
    for key, value in changes.items():
        if value is None:
            cfg.pop(key)
        else:
            cfg[key].update(copy.deepcopy(value))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_masked_and_sliced_agree(name):
    network, size, units = classifier(name)
    assert len(find_units(network)[0]) == units
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(2)).double()
    for train in (True, False):
        network.train(train)
        sliced_agrees(copy.deepcopy(network), images)


DETECTORS = {
    "pytorch": "retinanet/retinanet_r50_fpn_1x_coco.py",
    "caffe": "retinanet/retinanet_r50-caffe_fpn_1x_coco.py",
    "mask": "mask_rcnn/mask-rcnn_r50-caffe_fpn_1x_coco.py",
    "faster": "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
}
# Channels in the backbone's blocks, of the FPN, of RetinaNet's branches or of the two-stage heads.
UNITS = {"pytorch": 41, "caffe": 41, "mask": 41, "faster": 36}
HEADS = {
    "pytorch": ("bbox_head",),
    "caffe": ("bbox_head",),
    "mask": ("rpn_head", "roi_head.bbox_head", "roi_head.mask_head"),
    "faster": ("rpn_head", "roi_head.bbox_head"),
}


def detector_config(name: str) -> dict:
    cfg = Config.fromfile(Path(mmdet.__file__).parent / ".mim/configs" / DETECTORS[name]).model
    cfg.backbone.update(base_channels=8, stem_channels=8)
    cfg.backbone.pop("init_cfg")
    cfg.neck.update(in_channels=[32, 64, 128, 256], out_channels=12)
    if "rpn_head" in cfg:
        cfg.rpn_head.update(in_channels=12, feat_channels=14)
        cfg.roi_head.bbox_roi_extractor.update(out_channels=12)
        cfg.roi_head.bbox_head.update(in_channels=12, fc_out_channels=18, num_classes=3)
    if name == "mask":
        cfg.roi_head.mask_roi_extractor.update(out_channels=12)
        cfg.roi_head.mask_head.update(in_channels=12, conv_out_channels=10, num_classes=3)
    if name in ("pytorch", "caffe"):
        cfg.bbox_head.update(in_channels=12, feat_channels=10, num_classes=3)
    return cfg


def detector(cfg: dict) -> nn.Module:
    init_default_scope("mmdet")
    return randomised(MODELS.build(copy.deepcopy(cfg)))


@pytest.mark.parametrize("name", DETECTORS)
def test_detectors_are_proven_with_neck_and_heads(name):
    network = detector(detector_config(name))
    kept = rank_scores(scored(network, ""), 0.4)
    assert len(kept) == UNITS[name]
    sliced = slice_network(copy.deepcopy(network), kept)
    proof = prove_slicing(network, kept, sliced)
    for head in HEADS[name]:
        assert head in proof.compared.split(", ")
    wrong = copy.deepcopy(sliced)
    with torch.no_grad():
        next(p for p in wrong.get_submodule(HEADS[name][-1]).parameters() if p.ndim > 1)[0] += 0.1
    with pytest.raises(ProofError):
        prove_slicing(network, kept, wrong)


class WithBlocks(nn.Module):
    """Residual blocks and a chain behind the backbone, where images do not get by themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = MODELS.build(
            dict(type="mmdet.ResNet", depth=18, base_channels=4, stem_channels=4)
        )
        self.shared = ResLayer(BasicBlock, 8, 6, 2, stride=2)
        self.top = nn.Sequential(nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1))

    def forward(self, images, boxes):
        raise NotImplementedError

    def look(self, x):
        return self.top(self.shared(x))


def test_blocks_and_chains_in_heads_are_proven_on_inputs_of_their_own():
    network = randomised(WithBlocks())
    kept = rank_scores(scored(network, ""), 0.4)
    assert [n for n in kept if not n.startswith("backbone")] == [
        "shared.0.conv1",
        "shared.1.conv1",
        "top.0",
    ]
    sliced = slice_network(copy.deepcopy(network), kept)
    proof = prove_slicing(network, kept, sliced)
    assert proof.compared.split(", ") == ["backbone", "shared.0", "shared.1", "top"]
    wrong = copy.deepcopy(sliced)
    with torch.no_grad():
        wrong.top[2].bias[0] += 0.1
    with pytest.raises(ProofError):
        prove_slicing(network, kept, wrong)


@pytest.mark.parametrize("name", ["pytorch", "caffe"])
def test_a_detector_agrees_while_it_trains(name):
    network = detector(detector_config(name)).double()
    network.train()
    images = torch.randn(2, 3, 97, 131, generator=torch.Generator().manual_seed(2)).double()
    sliced_agrees(network, images, include=["backbone", "neck", "bbox_head"])


@pytest.mark.parametrize("name", ["pytorch", "caffe"])
def test_frozen_stages_and_norms_stay_frozen(name):
    """Their scores are searched like others; no pruned weight of theirs moves."""
    cfg = detector_config(name)
    assert (cfg.backbone.frozen_stages, cfg.backbone.norm_eval) == (1, True)
    assert cfg.backbone.style == name
    network = detector(cfg)
    network.train()
    frozen = {n for n, p in network.named_parameters() if not p.requires_grad}
    assert "backbone.layer1.0.conv1.weight" in frozen
    assert ("backbone.layer2.0.bn1.weight" in frozen) == (name == "caffe")
    kept = rank_scores(scored(network), 0.4)
    assert len(kept["backbone.layer1.0.conv1"]) < 8
    sliced = slice_network(copy.deepcopy(network), kept)
    rebuilt = MODELS.build(pruned_config(cfg, kept))
    rebuilt.load_state_dict(sliced.state_dict(), strict=True)
    # A stride stands where the style wants it.
    strides = (1, 2) if name == "pytorch" else (2, 1)
    for pruned in (sliced, rebuilt):
        pruned.eval()
        pruned.train()
        block = pruned.backbone.layer2[0]
        assert (block.conv1.stride[0], block.conv2.stride[0]) == strides
        assert {n for n, p in pruned.named_parameters() if not p.requires_grad} == frozen
        norms = [m for m in pruned.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
        assert len(norms) == 53
        assert not any(norm.training for norm in norms)

    before = copy.deepcopy(rebuilt.state_dict())
    optimizer = torch.optim.SGD((p for p in rebuilt.parameters() if p.requires_grad), lr=0.1)
    sum(t.square().mean() for t in flat(rebuilt(torch.randn(2, 3, 65, 97)))).backward()
    optimizer.step()
    moved = {n for n, value in rebuilt.state_dict().items() if not torch.equal(value, before[n])}
    assert not moved & frozen
    assert not any("running" in n for n in moved if n.startswith("backbone"))
    assert "backbone.layer2.0.conv1.weight" in moved


def detr_config() -> dict:
    path = Path(mmdet.__file__).parent / ".mim/configs/detr/detr_r50_8xb2-150e_coco.py"
    cfg = Config.fromfile(path).model
    cfg.num_queries = 5
    cfg.backbone.update(depth=18, base_channels=4, stem_channels=4)
    cfg.backbone.pop("init_cfg")
    cfg.neck.update(in_channels=[32], out_channels=16)
    for stack, attentions in (
        (cfg.encoder, ["self_attn_cfg"]),
        (cfg.decoder, ["self_attn_cfg", "cross_attn_cfg"]),
    ):
        stack.num_layers = 2
        for attention in attentions:
            stack.layer_cfg[attention].update(embed_dims=16, num_heads=2)
        stack.layer_cfg.ffn_cfg.update(embed_dims=16, feedforward_channels=22)
    cfg.positional_encoding.num_feats = 8
    cfg.bbox_head.update(embed_dims=16, num_classes=3)
    return cfg


FFNS = [f"{stack}.layers.{i}.ffn" for stack in ("encoder", "decoder") for i in (0, 1)]


def test_the_mlps_of_detr():
    network = detector(detr_config())
    include = ["backbone", "encoder", "decoder"]
    units, left_out = find_units(network, include)
    assert [u.name for u in units if u.kind == "mlp"] == FFNS
    # 2 self attentions in the encoder, 4 attentions in the decoder.
    assert len(left_out) == 6
    assert all("fixes the dimensions of a head" in layer.reason for layer in left_out)

    kept = rank_scores(scored(network, include), 0.4)
    sliced = slice_network(copy.deepcopy(network), kept)
    proof = prove_slicing(network, kept, sliced)
    assert proof.compared.split(", ") == ["backbone", *FFNS]
    wrong = copy.deepcopy(sliced)
    with torch.no_grad():
        wrong.decoder.layers[1].ffn.layers[1].bias[3] += 0.1
    with pytest.raises(ProofError):
        prove_slicing(network, kept, wrong)

    rebuilt = MODELS.build(pruned_config(detr_config(), kept))
    rebuilt.load_state_dict(sliced.state_dict(), strict=True)
    assert rebuilt.encoder.layers[0].ffn.feedforward_channels == len(kept[FFNS[0]])


def test_the_whole_of_detr_agrees():
    samples = []
    for shape in ((65, 97), (60, 80)):
        sample = DetDataSample(metainfo=dict(img_shape=shape, batch_input_shape=(65, 97)))
        samples.append(sample)
    network = detector(detr_config()).double()
    network.eval()
    images = torch.randn(2, 3, 65, 97, generator=torch.Generator().manual_seed(2)).double()
    sliced, kept = sliced_agrees(
        network,
        images,
        include=FFNS,
        run=lambda network, images: network(images, samples, mode="tensor"),
    )
    assert set(kept) == set(FFNS)
    assert sliced.decoder.layers[1].ffn.layers[1].in_features == len(kept[FFNS[3]])
