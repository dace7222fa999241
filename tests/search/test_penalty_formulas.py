"""Penalties against closed forms, and proximal maps against the minimum that defines them."""

import json

import pytest
import torch

from rarts_mm.search import HardThreshold, L1Penalty, LatencyPenalty, Player, ProximalL1
from rarts_mm.search.lagrangian import Lagrangian

Z = [0.0, 1.0, -1.0]


def alphas(*values):
    return [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in values]


def gradient_of(penalty, params, factor=1.0):
    for p in params:
        p.grad = torch.zeros_like(p)
    with torch.no_grad():
        penalty.add_gradient_(params, factor)
    return [p.grad.tolist() for p in params]


def test_latency_check_value():
    """reference value of z = (0, 1, -1), Lat = (1, 2, 4): <softmax(z), Lat> and its gradient."""
    penalty = LatencyPenalty({"edge": [1, 2, 4]}, gamma=1.0)
    (a,) = alphas(Z)
    penalty.bind({"edge": a})
    assert penalty.value([a]).item() == pytest.approx(1.9353327, abs=1e-7)
    (gradient,) = gradient_of(penalty, [a])
    assert gradient == pytest.approx([-0.2289025, 0.0430194, 0.1858832], abs=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_latency_of_several_edges_is_plain_autograd(dtype, tmp_path):
    generator = torch.Generator().manual_seed(0)
    one, two = (torch.randn(*s, generator=generator, dtype=dtype) for s in ((4, 5), (3,)))
    tables = {"normal": torch.rand(4, 5, generator=generator), "reduce": torch.tensor([1.0, 0, 7])}
    path = tmp_path / "latencies.json"
    path.write_text(json.dumps({"latencies": {k: t.tolist() for k, t in tables.items()}}))
    for source in (tables, path, str(path)):
        penalty = LatencyPenalty(source, gamma=0.3)
        params = [one.clone().requires_grad_(), two.clone().requires_grad_()]
        penalty.bind({"normal": params[0], "reduce": params[1]})
        plain = 0.3 * sum(
            (a.softmax(-1) * t.to(dtype)).sum()
            for a, t in zip(params, tables.values(), strict=True)
        )
        assert penalty.value(params).item() == pytest.approx(plain.item(), rel=1e-6)
        wanted = torch.autograd.grad(plain, params)
        for p in params:
            p.grad = torch.ones_like(p)
        with torch.no_grad():
            penalty.add_gradient_(params, 0.5)
        for p, g in zip(params, wanted, strict=True):
            torch.testing.assert_close(p.grad, 1 + 0.5 * g)


def test_one_row_of_latencies_serves_all_edges():
    penalty = LatencyPenalty({"edges": [1, 2, 4]}, gamma=1.0)
    (a,) = alphas([Z, Z])
    penalty.bind({"edges": a})
    assert penalty.value([a]).item() == pytest.approx(2 * 1.9353327, abs=1e-6)


@pytest.mark.parametrize(
    ("latencies", "message"),
    [
        ({"other": [1, 2, 3]}, r"'other'.*'edge'"),
        ({"edge": [1, 2]}, r"'edge' have shape \(2,\).*\(3,\)"),
        ({"edge": [1, -2, 3]}, r"'edge' must be finite numbers >= 0"),
        ({"edge": [1, float("nan"), 3]}, r"'edge' must be finite"),
        ("nowhere.json", r"nowhere\.json.*does not exist"),
    ],
)
def test_latencies_are_checked(latencies, message):
    with pytest.raises(ValueError, match=message):
        LatencyPenalty(latencies).bind({"edge": alphas(Z)[0]})


def test_l1_by_subgradient():
    params = alphas([-2.0, 0.0, 3.0], [[0.5], [-0.25]])
    assert L1Penalty(0.1).value(params).item() == pytest.approx(0.575)
    found = gradient_of(L1Penalty(0.1), params, 0.5)
    assert found[0] == pytest.approx([-0.05, 0, 0.05])
    assert [x for row in found[1] for x in row] == pytest.approx([0.05, -0.05])


def minimum(value, step, cost):
    """argmin over x of (x - value)^2 / 2 + step * cost(x), on a fine grid with 0 in it."""
    x = torch.linspace(-4, 4, 80001, dtype=torch.float64)
    x[x.abs() < 1e-9] = 0
    return x[((x - value) ** 2 / 2 + step * cost(x)).argmin()].item()


@pytest.mark.parametrize(
    ("penalty", "cost"), [(ProximalL1, torch.abs), (HardThreshold, lambda x: (x != 0).double())]
)
@pytest.mark.parametrize("gamma", [0.02, 0.5, 3.0])
def test_proximal_maps_minimise_what_defines_them(penalty, cost, gamma):
    step = 0.7
    values = [-3.0, -1.2345, -0.3, -0.013, 0.0, 0.0139, 0.4, 0.77, 2.6]
    (a,) = alphas(values)
    with torch.no_grad():
        penalty(gamma).proximal_([a], step)
    for value, found in zip(values, a.tolist(), strict=True):
        assert found == pytest.approx(minimum(value, step * gamma, cost), abs=1.1e-4)
    threshold = step * gamma if penalty is ProximalL1 else (2 * step * gamma) ** 0.5
    # Zeros are exact, and there is no other sign.
    assert [x == 0 for x in a.tolist()] == [abs(v) <= threshold for v in values]


def test_soft_and_hard_threshold_on_both_sides_of_their_bounds():
    (a, b) = alphas([1.0, -1.0, 0.2001, -0.2, 0.5], [1.0, -0.64, 0.6, -0.63, 0.64])
    with torch.no_grad():
        ProximalL1(2.0).proximal_([a], 0.1)
        HardThreshold(2.0).proximal_([b], 0.1)
    assert a.tolist() == pytest.approx([0.8, -0.8, 0.0001, 0, 0.3])
    assert b.tolist() == [1.0, -0.64, 0, 0, 0.64]


def test_hard_threshold_counts_what_is_not_zero():
    assert HardThreshold(0.1).value(alphas([0.0, -1.0, 2.0], [0.0])).item() == pytest.approx(0.2)


def test_proximal_step_is_each_groups_own():
    one, two = alphas([1.0, 0.1], [1.0, 0.1])
    groups = [dict(params=[one], lr=0.1), dict(params=[two], lr=0.4, gamma_factor=0.5)]
    alpha = Player([two, one], torch.optim.SGD(groups))
    Lagrangian(penalties=(ProximalL1(1.0),)).proximal_(alpha)
    assert one.tolist() == pytest.approx([0.9, 0.0])
    assert two.tolist() == pytest.approx([0.8, 0.0])


def test_proximal_l1_finds_the_lasso():
    """min 1/2 |a - t|^2 + gamma |a|_1 is the soft threshold of t, for any step below 2."""
    target = torch.tensor([2.0, -0.4, 0.6, -3.0], dtype=torch.float64)
    (a,) = alphas([5.0, 5.0, -5.0, 5.0])
    alpha = Player([a], torch.optim.SGD([a], lr=0.3))
    penalty = ProximalL1(0.5)
    for _ in range(120):
        a.grad = (a - target).detach()
        alpha.optimizer.step()
        Lagrangian(penalties=(penalty,)).proximal_(alpha)
    assert a.tolist() == pytest.approx([1.5, 0.0, 0.1, -2.5], abs=1e-12)
    a.grad = (a - target).detach()
    assert Lagrangian(penalties=(penalty,)).alpha_residual(alpha).item() < 1e-12


@pytest.mark.parametrize("penalty", [L1Penalty, ProximalL1, HardThreshold])
@pytest.mark.parametrize("gamma", [-1e-4, float("nan"), float("inf"), "1", None])
def test_gamma_is_checked(penalty, gamma):
    with pytest.raises(ValueError, match=rf"{penalty.__name__}: gamma .*{gamma!r}"):
        penalty(gamma)


@pytest.mark.parametrize("penalty", [ProximalL1, HardThreshold])
def test_gamma_of_zero_changes_nothing(penalty):
    (a,) = alphas([0.3, 0.0, -1e-300])
    before = a.tolist()
    with torch.no_grad():
        penalty(0.0).proximal_([a], 0.1)
    assert a.tolist() == before
