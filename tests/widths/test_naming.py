"""Units are included and excluded by path, name or pattern."""

import pytest
from mmengine.registry import init_default_scope

from rarts_mm.registry import MODELS
from rarts_mm.widths import find_units


@pytest.fixture(scope="module")
def network():
    init_default_scope("mmpretrain")
    return MODELS.build(dict(type="ResNet", depth=18, base_channels=4))


def names(network, *args):
    return [unit.name for unit in find_units(network, *args)[0]]


def test_paths_names_and_patterns(network):
    everything = names(network)
    assert len(everything) == 8
    assert names(network, "layer1") == ["layer1.0.conv1", "layer1.1.conv1"]
    assert names(network, ["layer1.1", "layer4.0.conv1"]) == ["layer1.1.conv1", "layer4.0.conv1"]
    assert names(network, "*.0.conv1") == [f"layer{i}.0.conv1" for i in (1, 2, 3, 4)]
    assert names(network, "", "layer?.0") == [f"layer{i}.1.conv1" for i in (1, 2, 3, 4)]
    assert names(network, "backbone", ["layer1", "*.1.*"]) == [
        f"layer{i}.0.conv1" for i in (2, 3, 4)
    ]


@pytest.mark.parametrize(
    ("include", "exclude", "message"),
    [
        ("layer5", (), r"include names 'layer5'.*'layer4'"),
        ("layer1.0.conv3", (), r"include names 'layer1.0.conv3'.*'layer1.0.conv1'"),
        ("", "layer1.0.conv9", r"exclude names 'layer1.0.conv9'.*'layer1.0.conv1'"),
        ("", "*.bn7", r"exclude names '\*.bn7'.*no such unit"),
    ],
)
def test_what_names_nothing_is_an_error(network, include, exclude, message):
    with pytest.raises(ValueError, match=message):
        find_units(network, include, exclude)


def test_a_layer_that_is_there_but_cannot_be_scored_is_no_error(network):
    assert names(network, "conv1") == []
