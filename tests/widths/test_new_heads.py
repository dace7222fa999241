"""Loading a pruned layer: widths that were cut are strict, other numbers of outputs are a new head."""

import pytest
import torch
from mmengine.runner import load_checkpoint
from torch import nn

from rarts_mm.widths.layers.cutting import cut_inputs, cut_outputs
from rarts_mm.widths.layers.scored_channels import score_inputs
from rarts_mm.widths.layers.sliced_linear import SlicedLinear

LAYERS = {
    "linear": lambda outputs: nn.Linear(6, outputs),
    "conv": lambda outputs: nn.Conv2d(6, outputs, 3),
    "no bias": lambda outputs: nn.Conv2d(6, outputs, 3, bias=False),
    "transposed": lambda outputs: nn.ConvTranspose2d(6, outputs, 2),
}


def reader(kind: str, outputs: int = 4, inputs: int = 3) -> nn.Module:
    """A layer with some of its inputs cut away, as the last one of a head."""
    return nn.ModuleDict(dict(fc=cut_inputs(LAYERS[kind](outputs), torch.arange(inputs))))


def load(network: nn.Module, state: dict, tmp_path) -> None:
    torch.save(dict(state_dict=state), tmp_path / "other.pth")
    load_checkpoint(network, str(tmp_path / "other.pth"))


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("searched", [False, True])
def test_another_number_of_outputs_is_a_new_head(kind, searched, tmp_path, capfd):
    network = reader(kind, outputs=5)
    if searched:
        score_inputs(network["fc"], torch.ones(3))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    load(network, reader(kind, outputs=4).state_dict(), tmp_path)
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    out, err = capfd.readouterr()
    assert "size mismatch for fc.weight" in out + err


@pytest.mark.parametrize("kind", LAYERS)
def test_a_checkpoint_without_a_head_leaves_it(kind, tmp_path, capfd):
    network = reader(kind)
    before = network["fc"].weight.clone()
    load(network, {}, tmp_path)
    assert torch.equal(network["fc"].weight, before)
    out, err = capfd.readouterr()
    assert "fc.weight" in out + err


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("outputs", [4, 5])
def test_other_inputs_are_refused_whatever_the_outputs(kind, outputs, tmp_path):
    with pytest.raises(RuntimeError, match=r"fc\.weight .*different prunings"):
        load(reader(kind), reader(kind, outputs, inputs=2).state_dict(), tmp_path)


@pytest.mark.parametrize("kind", LAYERS)
def test_outputs_that_were_cut_stay_strict(kind, tmp_path):
    """Also where inputs are cut afterwards, which does not forget it."""
    first = cut_outputs(LAYERS[kind](4), torch.arange(3))
    both = cut_inputs(first, torch.arange(2))
    for layer, inputs in ((first, 6), (both, 2)):
        other = cut_inputs(LAYERS[kind](4), torch.arange(inputs))
        for state in ({"fc." + k: v for k, v in other.state_dict().items()}, {}):
            with pytest.raises(RuntimeError, match="different prunings"):
                load(nn.ModuleDict(dict(fc=layer)), state, tmp_path)


def test_a_linear_pair_is_strict_at_its_writer_and_free_at_its_reader():
    linear = nn.Linear(6, 4)
    assert SlicedLinear.cut(linear, rows=torch.arange(2)).outputs_cut
    assert not SlicedLinear.cut(linear, columns=torch.arange(2)).outputs_cut
