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
        ("model.spac.exclude=foo", "unknown key model.spac of a SearchModel"),
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
