"""A derived network is an ordinary network: what the width search scores in it, and cuts."""

import copy

import pytest
import torch
from mmcv.cnn.bricks import DropPath

from rarts_mm.cells.genotype import Genotype
from rarts_mm.cells.retraining import DARTSNetwork, Edge
from rarts_mm.registry import MODELS
from rarts_mm.widths import find_units, pruned_config
from tests.widths.comparing import difference, randomised, sliced_agrees

# All operations; the separable convolutions also in the reduction, at stride 2 and at stride 1.
GENOTYPE = Genotype(
    normal=(
        *(("sep_conv_3x3", 0), ("skip_connect", 1)),
        *(("sep_conv_5x5", 2), ("dil_conv_3x3", 1)),
        *(("max_pool_3x3", 0), ("dil_conv_5x5", 3)),
    ),
    normal_concat=(2, 3, 4),
    reduce=(
        *(("sep_conv_5x5", 0), ("avg_pool_3x3", 1)),
        *(("skip_connect", 0), ("sep_conv_3x3", 2)),
    ),
    reduce_concat=(2, 3),
)


def network(**settings) -> DARTSNetwork:
    kind = dict(genotype=GENOTYPE.text(), channels=6, layers=4)
    return randomised(DARTSNetwork(**kind | settings)).double()


def images(*size: int) -> torch.Tensor:
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(2)).double()


def test_units_are_the_channels_within_separable_convolutions():
    model = network()
    found, left_out = find_units(model)
    expected = {}
    for path, module in model.named_modules():
        if isinstance(module, Edge) and len(module.operation._modules) == 8:
            expected[path] = module.operation[2].out_channels
    names = {unit.name.partition(".operation")[0]: unit.size for unit in found}
    assert names == expected
    # Two in a normal cell and two in a reduction; the widths double twice.
    assert [*expected.values()] == [6, 6, 12, 12, 24, 24, 24, 24]
    # Nothing that only training runs.
    assert [one.name for one in left_out] == ["tower.2"]
    # ReLU, depthwise 3 x 3, norm of two numbers, a row of one convolution, a column of the other.
    unit = found[0]
    assert unit.parameters_per_score == 6 + 2 + 9 + 6
    assert unit.operations_per_score == 6 + 9 + 6


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("settings", "size"), [(dict(), (33, 29)), (dict(stem="imagenet", auxiliary=False), (65, 47))]
)
def test_masked_and_sliced_networks_agree(training, settings, size):
    model = network(**settings).train(training)
    sliced, kept = sliced_agrees(model, images(*size))
    for name, index in kept.items():
        writer = sliced.get_submodule(name)
        assert writer.out_channels == len(index)
    assert len(sliced(images(*size))) == (2 if training and not settings else 1)


def test_the_config_rebuilds_the_pruned_network():
    model = network().eval()
    sliced, kept = sliced_agrees(model, images(33, 35))
    backbone = dict(type="rarts_mm.DARTSNetwork", genotype=GENOTYPE.text(), channels=6, layers=4)
    rebuilt = MODELS.build(copy.deepcopy(pruned_config(backbone, kept))).double().eval()
    rebuilt.load_state_dict(sliced.state_dict(), strict=True)
    with torch.no_grad():
        assert difference(sliced(images(33, 35)), rebuilt(images(33, 35))) == 0
    # A drop path that is scheduled reaches the pruned network too.
    rebuilt.set_drop_path(0.3)
    assert {m.drop_prob for m in rebuilt.modules() if isinstance(m, DropPath)} == {0.3}
