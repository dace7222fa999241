"""``tools/prune.py --list``: what can be scored in a config's network."""

import re

import pytest

from tests.conftest import CONFIGS, run_tool

SEARCH = CONFIGS / "sidt_swin_micro_shapes.py"


def words(text: str) -> str:
    return " ".join(text.split())


def test_units_of_a_search_and_of_what_it_leaves_alone(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    status, out, err = run_tool("prune", "--list", SEARCH)
    assert status == 0, err
    assert "backbone.stages.0.blocks.0.attn.w_msa" in out
    assert "roi_head.bbox_head.2.shared_fcs.0" in out
    rows = {line.split()[0]: line.split() for line in out.splitlines() if "." in line.split(" ")[0]}
    first = rows["backbone.stages.0.blocks.0.ffn"]
    # 48 -> 192 -> 48 with biases: 2 * 48 + 1 parameters and 96 products per dimension.
    assert first[1:5] == ["mlp", "192", "97", "96"]
    assert first[-1] == "yes"
    assert rows["neck.lateral_convs"][-1] != "yes"

    status, out, err = run_tool(
        "prune", "--list", SEARCH, "--cfg-options", "model.space.include=neck"
    )
    assert status == 0, err
    assert "1 units with" in words(out)


def test_a_plain_config_and_what_is_left_out(tmp_path):
    config = tmp_path / "plain.py"
    config.write_text(
        "custom_imports = dict(imports=['rarts_mm'], allow_failed_imports=False)\n"
        "default_scope = 'mmpretrain'\n"
        "model = dict(type='ImageClassifier', backbone=dict(type='MobileNetV2', widen_factor=0.5),\n"
        "    neck=dict(type='GlobalAveragePooling'),\n"
        "    head=dict(type='LinearClsHead', num_classes=3, in_channels=1280,\n"
        "        loss=dict(type='CrossEntropyLoss')))\n"
    )
    status, out, err = run_tool("prune", "--list", config)
    assert status == 0, err
    assert "16 units" in words(out)
    assert "left out: backbone.layer1.0 (InvertedResidual): it has no expansion" in words(out)


def test_what_the_space_would_refuse():
    config = CONFIGS / "sidt_swin_micro_digits.py"
    space = "model.space.type=BatchNormSpace"
    status, out, err = run_tool("prune", "--list", config, "--cfg-options", space)
    assert status == 0, err
    assert "a search in the BatchNormSpace refuses this network until" in words(out)
    assert "attn.w_msa: the attention has no batch norm of its own" in words(out)
    assert "0 units with 0 scores are searched" in words(out)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("model.spac.exclude=foo", "unknown key model.spac of (a )?SearchModel"),
        ("model.space=WidthSpace", "must be a dict.*model.space.type=WidthSpace"),
        ("model.space.inclde=backbone", "inclde"),
        ("model.space=dict(type='WidthSpace',exclude=['*.bn7'])", "key by key"),
    ],
)
def test_settings_that_a_search_would_refuse(option, message):
    status, _, err = run_tool("prune", "--list", SEARCH, "--cfg-options", option)
    assert status == 2
    assert re.search(message, words(err))


@pytest.mark.parametrize("others", [("--scratch",), ("--round-to", 8), ("--keep", "mean")], ids=str)
def test_options_of_a_pruning_are_no_part_of_a_list(others):
    status, _, err = run_tool("prune", "--list", SEARCH, *others)
    assert status == 2
    assert "nothing to prune" in err


def test_listing_takes_a_config_alone(tmp_path):
    status, _, err = run_tool("prune", "--list", SEARCH, "--ratio", "0.4")
    assert status == 2
    assert "--list takes CONFIG and nothing to prune" in err
    status, _, err = run_tool("prune", "--list")
    assert status == 2
    status, _, err = run_tool("prune", "--list", tmp_path / "none.py")
    assert status == 2
    assert "does not exist" in err


# YOLOv3 in small: what adapters know is nowhere in it.
DARKNET = """
default_scope = "mmdet"
model = dict(
    type="YOLOV3",
    backbone=dict(type="Darknet", depth=53, out_indices=(3, 4, 5)),
    neck=dict(type="YOLOV3Neck", num_scales=3, in_channels=[1024, 512, 256],
        out_channels=[512, 256, 128]),
    bbox_head=dict(type="YOLOV3Head", num_classes=3, in_channels=[512, 256, 128],
        out_channels=[1024, 512, 256]))
"""
FCOS = """
default_scope = "mmdet"
model = dict(
    type="FCOS",
    backbone=dict(type="ResNet", depth=18, base_channels=8, stem_channels=8),
    neck=dict(type="FPN", in_channels=[8, 16, 32, 64], out_channels=8, num_outs=5),
    bbox_head=dict(type="FCOSHead", num_classes=3, in_channels=8, feat_channels=8, norm_cfg=None))
"""
REPVGG = """
default_scope = "mmpretrain"
model = dict(
    type="ImageClassifier",
    backbone=dict(type="RepVGG", arch="A0"),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(type="LinearClsHead", num_classes=3, in_channels=1280))
"""


def write(folder, text):
    config = folder / "plain.py"
    config.write_text(
        text + '\ncustom_imports = dict(imports=["rarts_mm"], allow_failed_imports=False)\n'
    )
    return config


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            DARKNET,
            [
                "backbone (Darknet): 6 convolutions: there is no adapter for Darknet",
                "backbone (ResBlock): 46 convolutions in 23 of them: there is no adapter for ResBlock",
                "neck (DetectionBlock): 15 convolutions in 3 of them",
                "bbox_head (YOLOV3Head): 6 convolutions: there is no adapter for YOLOV3Head",
            ],
        ),
        (
            REPVGG,
            [
                "backbone (RepVGGBlock): 44 convolutions in 22 of them: there is no adapter for",
                "head (LinearClsHead): 1 linear layer: there is no adapter for LinearClsHead",
            ],
        ),
    ],
    ids=["yolov3", "repvgg"],
)
def test_a_network_with_nothing_to_score_says_why(text, lines, tmp_path):
    status, _, err = run_tool("prune", "--list", write(tmp_path, text))
    assert status == 2
    assert "nothing in this network can be scored" in err
    for line in lines:
        assert f"left out: {line}" in words(err)
    assert "docs/adapters.md" in err


def test_every_layer_is_in_a_unit_or_in_a_note(tmp_path):
    status, out, err = run_tool("prune", "--list", write(tmp_path, FCOS))
    assert status == 0, err
    for line in (
        "bbox_head (FCOSHead): 11 convolutions: there is no adapter for FCOSHead",
        "backbone (ResNet): 1 convolution: there is no adapter for ResNet",
        "backbone (BasicBlock): 3 convolutions in 3 of them: their outputs leave the BasicBlock",
    ):
        assert f"left out: {line}" in words(out)


def test_a_search_with_nothing_to_score_says_why(tmp_path):
    text = REPVGG + (
        'model = dict(type="rarts_mm.SearchModel", architecture=model)\n'
        'train_cfg = dict(type="rarts_mm.SearchLoop", max_epochs=1)\n'
    )
    from mmengine.config import Config

    from rarts_mm.registry import MODELS

    cfg = Config.fromfile(write(tmp_path, text))
    with pytest.raises(ValueError, match="44 convolutions in 22 of them: there is no adapter"):
        MODELS.build(
            dict(cfg.model, architecture=dict(cfg.model.architecture, _scope_="mmpretrain"))
        )
