import pickle

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.runner import load_checkpoint
from torch import nn

from rarts_mm.widths import ScoredLinear, SlicedLinear
from rarts_mm.widths.layers.scored_linear import ScoredSlicedLinear


def _network(width):
    return nn.ModuleDict({"body": nn.ModuleDict({"fc": SlicedLinear(4, width)})})


def test_cut_keeps_rows_and_columns_and_folds_into_the_bias():
    linear = nn.Linear(5, 6, dtype=torch.float64)
    rows, columns = torch.tensor([0, 4, 5]), torch.tensor([1, 2])
    scale = torch.tensor([2.0, -3.0, 0.5], dtype=torch.float64)
    cut = SlicedLinear.cut(linear, rows, columns, scale)
    x = torch.zeros(7, 5, dtype=torch.float64)
    x[:, columns] = torch.randn(7, 2, dtype=torch.float64)
    assert torch.allclose(cut(x[:, columns]), linear(x)[:, rows] * scale, rtol=0, atol=1e-15)
    assert (cut.in_features, cut.out_features) == (2, 3)
    assert cut.weight.untyped_storage().data_ptr() != linear.weight.untyped_storage().data_ptr()


@pytest.mark.parametrize("strict", [True, False])
def test_other_widths_raise_and_name_the_layer(strict):
    with pytest.raises(
        RuntimeError, match=r"body\.fc\.weight has shape \(3, 4\).*\(5, 4\)"
    ) as error:
        _network(3).load_state_dict(_network(5).state_dict(), strict=strict)
    assert "different prunings" in str(error.value)


@pytest.mark.parametrize("missing", ["body.fc.weight", "body.fc.bias"])
def test_missing_weights_raise(missing):
    state = _network(3).state_dict()
    del state[missing]
    with pytest.raises(RuntimeError, match=f"{missing} .* nothing of that name"):
        _network(3).load_state_dict(state, strict=False)


def test_mmengine_loading_raises_too(tmp_path):
    """Runner.load_checkpoint is strict=False and would only warn."""
    path = str(tmp_path / "other.pth")
    torch.save({"state_dict": _network(5).state_dict()}, path)
    with pytest.raises(RuntimeError, match="different prunings"):
        load_checkpoint(_network(3), path, strict=False)


def test_own_checkpoint_loads():
    network, other = _network(3), _network(3)
    network.load_state_dict(pickle.loads(pickle.dumps(other)).state_dict())
    assert torch.equal(network["body"]["fc"].weight, other["body"]["fc"].weight)


@pytest.mark.parametrize("cls", [SlicedLinear, ScoredLinear, ScoredSlicedLinear])
def test_mmengine_initialisers_know_it_as_a_linear_layer(cls):
    class Host(BaseModule):
        def __init__(self):
            super().__init__(
                init_cfg={"type": "Constant", "layer": "Linear", "val": 0.25, "bias": 2.0}
            )
            self.fc = cls(3, 4)
            if isinstance(self.fc, ScoredLinear):
                self.fc = cls.wrap(nn.Linear(3, 4), torch.ones(4))

    host = Host()
    host.init_weights()
    assert (host.fc.weight == 0.25).all()
    assert (host.fc.bias == 2.0).all()


def test_scored_layer_of_a_sliced_one_stays_strict():
    scored = ScoredLinear.wrap(SlicedLinear(3, 4), torch.ones(2), repeats=2)
    assert isinstance(scored, SlicedLinear)
    with pytest.raises(RuntimeError, match="different prunings"):
        scored.load_state_dict(nn.Linear(3, 5).state_dict(), strict=False)


def test_alpha_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"shape \(3,\).*needs \(2,\)"):
        ScoredLinear.wrap(nn.Linear(3, 4), torch.ones(3), repeats=2)
