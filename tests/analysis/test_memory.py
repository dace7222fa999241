"""The estimate against what optimisers really hold."""

import copy

import pytest
import torch
from torch import nn

from rarts_mm.analysis import estimate_search_memory

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, amsgrad=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1, centered=True, momentum=0.5),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1),
    "groups": lambda p: torch.optim.SGD(
        [{"params": p[:1], "momentum": 0.9}, {"params": p[1:]}], lr=0.1
    ),
}


def parameters(*shapes, dtype=torch.float32):
    return [nn.Parameter(torch.randn(shape, dtype=dtype)) for shape in shapes]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_optimizer_states_are_what_a_step_makes(name, dtype):
    params = parameters((7, 5), (3,), (2, 3, 4), dtype=dtype)
    optimizer = OPTIMIZERS[name](params)
    before = copy.deepcopy((params, optimizer.state_dict()))
    estimate = estimate_search_memory({"primary": (params, optimizer)})
    # Nobody steps here.
    assert str((params, optimizer.state_dict())) == str(before)
    assert all(p.grad is None for p in params)
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer.step()
    held = [v for state in optimizer.state.values() for v in state.values()]
    expected = sum(v.numel() * v.element_size() for v in held if isinstance(v, torch.Tensor))
    assert estimate.states == {"primary": expected}


def test_total():
    big, small, alpha = parameters((100, 10), (3,)), parameters((50,)), parameters((6,))
    big[1].requires_grad_(False)
    estimate = estimate_search_memory(
        {
            "auxiliary": (big, torch.optim.SGD(big, lr=0.1)),
            "primary": (small, torch.optim.SGD(small, lr=0.1, momentum=0.9)),
            "alpha": (alpha, torch.optim.Adam(alpha, lr=0.1)),
        }
    )
    assert estimate.weights == {"auxiliary": 4012, "primary": 200, "alpha": 24}
    # Adam counts its steps in a number of its own.
    assert estimate.states == {"auxiliary": 0, "primary": 200, "alpha": 48 + 4}
    assert estimate.gradients == 4000
    assert estimate.total == 4012 + 200 + 24 + 200 + 52 + 4000
    players = {
        "auxiliary": (big, torch.optim.SGD(big, lr=0.1)),
        "alpha": (alpha, torch.optim.Adam(alpha, lr=0.1)),
    }
    estimate = estimate_search_memory(players, at_once=True, copies=2)
    assert (estimate.gradients, estimate.copies) == (4024, 8000)
    assert estimate.total == 4012 + 24 + 52 + 4024 + 8000
    assert estimate.available > 0


def test_text():
    params = parameters((512, 1024))
    estimate = estimate_search_memory({"primary": (params, torch.optim.Adam(params, lr=0.1))})
    text = str(estimate)
    assert "primary 2.00 MiB + 4.00 MiB optimiser states" in text
    assert "activations come on top" in text
    assert "8.00 MiB for weights" in text
    assert "NOT ENOUGH" not in text


def test_warns_when_memory_is_short(monkeypatch):
    monkeypatch.setattr("os.sysconf", lambda name: 1)
    params = parameters((512, 1024))
    text = str(estimate_search_memory({"primary": (params, torch.optim.Adam(params, lr=0.1))}))
    assert "NOT ENOUGH: 6.00 MiB are still to come" in text


def test_unknown_memory(monkeypatch):
    def missing(name):
        raise ValueError(name)

    monkeypatch.setattr("os.sysconf", missing)
    params = parameters((4,))
    estimate = estimate_search_memory({"primary": (params, torch.optim.SGD(params, lr=0.1))})
    assert estimate.available is None
    assert "could not be found out" in str(estimate)


def test_no_players():
    with pytest.raises(ValueError, match="no parameters"):
        estimate_search_memory({})
