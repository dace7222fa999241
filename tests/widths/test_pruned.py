import copy
from pathlib import Path

import mmdet
import mmpretrain
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import load_checkpoint, save_checkpoint

from rarts_mm.registry import MODELS
from rarts_mm.widths import (
    SlicedLinear,
    SlicedWindowMSA,
    find_units,
    insert_scores,
    prove_slicing,
    pruned_config,
    rank_scores,
    slice_network,
)

SWIN = {
    "embed_dims": 16,
    "depths": (1, 1, 2, 1),
    "num_heads": (1, 2, 4, 8),
    "window_size": 3,
    "init_cfg": {"type": "Pretrained", "checkpoint": "full_width.pth"},
    "type": "SwinTransformer",
}


@pytest.fixture
def cascade():
    """Config of a small Cascade Mask R-CNN, from MMDetection's own base config."""
    base = Path(mmdet.__file__).parent / ".mim/configs/_base_/models/cascade-mask-rcnn_r50_fpn.py"
    model = Config.fromfile(base).model
    model.backbone = dict(SWIN)
    model.neck.merge({"in_channels": [16, 32, 64, 128], "out_channels": 16})
    model.rpn_head.merge({"in_channels": 16, "feat_channels": 16})
    model.roi_head.bbox_roi_extractor.out_channels = 16
    model.roi_head.mask_roi_extractor.out_channels = 16
    for head in model.roi_head.bbox_head:
        head.merge({"in_channels": 16, "fc_out_channels": 16, "num_classes": 3})
    model.roi_head.mask_head.merge(
        {"num_convs": 1, "in_channels": 16, "conv_out_channels": 16, "num_classes": 3}
    )
    return model


@pytest.fixture
def mmdet_scope():
    import mmdet.models  # noqa: F401  (registers them)

    with DefaultScope.overwrite_default_scope("mmdet"):
        yield


@pytest.fixture
def pruned_cascade(cascade, mmdet_scope, score):
    """The searched model, its config, the plan, the sliced model."""
    cascade.backbone.pop("init_cfg")
    torch.manual_seed(0)
    network = MODELS.build(cascade)
    network.init_weights()
    kept = rank_scores(score(network), 0.4)
    return network, cascade, kept, slice_network(copy.deepcopy(network), kept)


def test_detector_round_trip(pruned_cascade, tmp_path):
    """prune writes config and checkpoint; the config builds the same model and proves equal."""
    network, base, kept, sliced = pruned_cascade
    Config({"model": pruned_config(base, kept)}).dump(tmp_path / "pruned.py")
    save_checkpoint({"state_dict": sliced.state_dict()}, str(tmp_path / "pruned.pth"))

    config = Config.fromfile(tmp_path / "pruned.py")
    assert config.model.type == "rarts_mm.PrunedModel"
    assert config.model.of == "CascadeRCNN"
    assert config.model.backbone.type == "SwinTransformer"
    assert config.model.widths == {name: len(indices) for name, indices in kept.items()}
    built = MODELS.build(config.model)
    assert type(built) is type(network)
    load_checkpoint(built, str(tmp_path / "pruned.pth"), strict=True)
    for (name, found), wanted in zip(
        built.state_dict().items(), sliced.state_dict().values(), strict=True
    ):
        assert torch.equal(found, wanted), name
    proof = prove_slicing(network, kept, built)
    assert (proof.compared, proof.outputs) == ("backbone", 4)


def test_checkpoint_of_other_widths_raises_and_names_the_layer(pruned_cascade, tmp_path):
    network, base, kept, sliced = pruned_cascade
    path = str(tmp_path / "other.pth")
    other = {name: indices[:-1] if len(indices) > 1 else indices for name, indices in kept.items()}
    built = MODELS.build(pruned_config(base, other))
    for wrong in (sliced, network):
        save_checkpoint({"state_dict": wrong.state_dict()}, path)
        with pytest.raises(RuntimeError, match=r"backbone\.stages\.0\.blocks\.0.*different"):
            load_checkpoint(built, path, strict=False)


def test_init_weights_of_the_host_reach_the_sliced_layers(cascade, mmdet_scope, pruned_cascade):
    _, base, kept, _ = pruned_cascade
    built = MODELS.build(pruned_config(base, kept))
    with torch.no_grad():
        for parameter in built.backbone.parameters():
            parameter.fill_(9.0)
    built.init_weights()
    sliced = [m for m in built.modules() if isinstance(m, SlicedLinear)]
    # qkv and proj, and two layers of an MLP, in each of five blocks.
    assert len(sliced) == 20
    for layer in sliced:
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.3)
        assert (layer.bias == 0).all()
    # MMPretrain's hosts recurse into the attention; MMDetection's Swin does not.
    for attention in (m for m in built.modules() if isinstance(m, SlicedWindowMSA)):
        attention.init_weights()
        assert attention.relative_position_bias_table.std().item() == pytest.approx(0.02, rel=0.5)


def test_classifier_is_initialised_and_loads(score):
    config = Config.fromfile(
        Path(mmpretrain.__file__).parent / ".mim/configs/_base_/models/swin_transformer/tiny_224.py"
    ).model
    config.backbone.arch = {"embed_dims": 8, "depths": [1, 1], "num_heads": [1, 2]}
    config.backbone.merge({"out_indices": (1,), "window_size": 4})
    config.head.merge({"in_channels": 16, "num_classes": 5})
    config.train_cfg = None
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        network = MODELS.build(config)
        kept = rank_scores(score(network), 0.5)
        built = MODELS.build(pruned_config(config, kept))
        built.init_weights()
    layer = built.backbone.stages[1].blocks[0].ffn.layers[0][0]
    assert isinstance(layer, SlicedLinear)
    assert layer.weight.std().item() == pytest.approx(0.02, rel=0.3)
    assert type(built).__name__ == "ImageClassifier"
    built.load_state_dict(slice_network(network, kept).state_dict(), strict=True)


def test_scope_may_be_named_in_the_type(cascade, pruned_cascade):
    _, base, kept, _ = pruned_cascade
    base.type = "mmdet.CascadeRCNN"
    assert pruned_config(base, kept)["of"] == "mmdet.CascadeRCNN"
    assert type(MODELS.build(pruned_config(base, kept))).__name__ == "CascadeRCNN"


def test_pruning_a_pruned_model_composes(pruned_cascade, score):
    _, base, kept, _ = pruned_cascade
    config = pruned_config(base, kept)
    once = MODELS.build(config)
    again = rank_scores(score(once, seed=4), 0.5)
    twice = pruned_config(config, again)
    assert twice["of"] == "CascadeRCNN"
    assert twice["widths"] == {name: len(indices) for name, indices in again.items()}
    built = MODELS.build(twice)
    built.load_state_dict(slice_network(once, again).state_dict(), strict=True)
    assert {u.name: u.size for u in find_units(built)[0]} == twice["widths"]


def test_pretrained_weights_of_full_width_are_dropped_where_units_lie(cascade):
    cascade.init_cfg = [
        {"type": "Pretrained", "checkpoint": "whole.pth"},
        {"type": "TruncNormal", "layer": "Linear", "std": 0.02},
    ]
    cascade.backbone.pretrained = "old_style.pth"
    cascade.teacher = {"init_cfg": {"type": "Pretrained", "checkpoint": "teacher.pth"}}
    before = copy.deepcopy(cascade)
    config = pruned_config(cascade, {"backbone.stages.0.blocks.0.ffn": [0, 1]})
    assert cascade == before
    assert config["init_cfg"] == [{"type": "TruncNormal", "layer": "Linear", "std": 0.02}]
    assert "init_cfg" not in config["backbone"]
    assert "pretrained" not in config["backbone"]
    assert config["teacher"] == before.teacher
    assert config["backbone"]["depths"] == before.backbone.depths


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ({"backbone.stages.0.blocks.0.fnn": 3}, r"fnn.*no such unit.*blocks\.0\.ffn"),
        ({"backbone.stages.0.blocks.0.ffn": 65}, "whole number from 1 to 64"),
        ({"backbone.stages.0.blocks.0.ffn": 0}, "whole number from 1 to 64"),
        ({"backbone.stages.0.blocks.0.attn.w_msa": 2.0}, "whole number from 1 to 16"),
    ],
)
def test_widths_that_do_not_fit_the_model(cascade, mmdet_scope, widths, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(dict(cascade, type="rarts_mm.PrunedModel", of=cascade.type, widths=widths))


def test_units_without_a_width_stay_whole(cascade, mmdet_scope):
    widths = {"backbone.stages.2.blocks.1.ffn": 7}
    built = MODELS.build(dict(cascade, type="rarts_mm.PrunedModel", of=cascade.type, widths=widths))
    whole = {unit.name: unit.size for unit in find_units(MODELS.build(cascade))[0]}
    assert {unit.name: unit.size for unit in find_units(built)[0]} == whole | widths
    assert list(insert_scores(built)) == list(whole)
