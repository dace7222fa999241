"""Penalties that a user writes: what the two bases do by themselves, and what they refuse."""

import pytest
import torch
from mmengine.optim import OptimWrapper

from rarts_mm.engine import RARTSOptimWrapper
from rarts_mm.registry import PENALTIES
from rarts_mm.search import (
    ALPHA,
    AUXILIARY,
    HardThreshold,
    L1Penalty,
    Lagrangian,
    LatencyPenalty,
    Penalty,
    Player,
    Problem,
    ProximalL1,
    ProximalPenalty,
    SmoothPenalty,
)
from tests import tiny
from tests.conftest import run_tool

TARGET = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, -0.1]], dtype=torch.float64)


class Ridge(SmoothPenalty):
    """gamma / 2 sum (alpha - rest)^2, by its value alone."""

    def __init__(self, gamma: float, rest: float = 0.0) -> None:
        super().__init__(gamma)
        self.rest = rest

    def value(self, alphas):
        return 0.5 * self.gamma * sum((a - self.rest).square().sum() for a in alphas)


class GroupLasso(ProximalPenalty):
    """gamma sum over rows |alpha_row|."""

    def value(self, alphas):
        return self.gamma * sum(a.norm(dim=-1).sum() for a in alphas)

    def proximal_(self, alphas, step):
        for a in alphas:
            a.mul_((1 - step * self.gamma / a.norm(dim=-1, keepdim=True)).clamp(min=0))


class Towards(Problem):
    """L_p + L_a = |alpha - target|^2 / 2, and a weight that does nothing to it."""

    def __init__(self):
        self.weight = torch.ones(1, dtype=torch.float64, requires_grad=True)
        self.alpha = torch.full_like(TARGET, 3.0, requires_grad=True)

    def loss(self, network, half, part=0):
        return (self.alpha - TARGET).square().sum() / 4 + self.weight.square().sum()

    def searched(self, **cfg) -> "Towards":
        def member(tensor):
            return OptimWrapper(torch.optim.SGD([tensor], lr=0.3))

        members = {AUXILIARY: member(self.weight), ALPHA: member(self.alpha)}
        wrapper = RARTSOptimWrapper(dict(type="Joint"), **cfg, **members)
        wrapper.stepper.measure = True
        for _ in range(150):
            log = wrapper.search_step(self)
        self.residual = wrapper.stepper.residuals[ALPHA].item()
        self.penalty = float(log["penalty"])
        return self


def test_a_value_alone_reaches_the_penalised_minimum():
    found = Towards().searched(penalty=dict(type=Ridge, gamma=0.8, rest=-1.0))
    wanted = (TARGET + 0.8 * -1.0) / 1.8
    torch.testing.assert_close(found.alpha.detach(), wanted)
    assert found.residual < 1e-12
    assert found.penalty == pytest.approx(0.4 * (wanted + 1).square().sum().item())


def test_a_proximal_map_reaches_the_penalised_minimum():
    """min |a - t|^2 / 2 + gamma |a| shrinks t by gamma, the second row, which is shorter, to zero."""
    found = Towards().searched(penalty=dict(type=GroupLasso, gamma=0.3))
    length = TARGET[0].norm()
    torch.testing.assert_close(found.alpha[0].detach(), TARGET[0] * (1 - 0.3 / length))
    assert (found.alpha[1] == 0).all()
    # Of the base's own making: the gradient mapping.
    assert found.residual < 1e-8


def test_both_kinds_add_up():
    penalties = [dict(type=Ridge, gamma=1.0), dict(type=GroupLasso, gamma=0.3)]
    found = Towards().searched(penalty=penalties).alpha.detach()
    # (a - t) + a + 0.3 a / |a| = 0
    torch.testing.assert_close(found[0], TARGET[0] * (1 - 0.3 / TARGET[0].norm()) / 2)
    assert (found[1] == 0).all()


@pytest.mark.parametrize("kind", [ProximalL1, HardThreshold])
def test_the_bases_residual_is_that_of_the_formula(kind):
    generator = torch.Generator().manual_seed(0)
    a, g = torch.randn(2, 40, generator=generator, dtype=torch.float64)
    a[::3] = 0
    wanted, found = g.clone(), g.clone()
    kind(0.4).residual_([wanted], [a], 0.5)
    ProximalPenalty.residual_(kind(0.4), [found], [a], 0.5)
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-8)
    assert not torch.equal(wanted, g)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_autograd_of_a_value_touches_nothing_but_the_gradient(dtype):
    """Exact, in alpha's type, under autocast too; graphs and parameters elsewhere stay as they are."""
    own = torch.tensor(2.0, requires_grad=True)

    class Cubic(SmoothPenalty):
        def value(self, alphas):
            assert all(a.dtype == dtype for a in alphas)
            return self.gamma * own.to(dtype) * (alphas[0] @ alphas[0]) * alphas[0].sum()

    alpha = torch.tensor([1.0, -0.5], dtype=dtype, requires_grad=True)
    unused = torch.ones(2, dtype=dtype, requires_grad=True)
    graph = (alpha * alpha).sum()
    for p in (alpha, unused):
        p.grad = torch.ones_like(p)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        Cubic(0.5).add_gradient_([alpha, unused], 0.25)
    # d/da_i of |a|^2 sum(a) = 2 a_i sum(a) + |a|^2
    assert alpha.grad.tolist() == [1 + 0.25 * 2.25, 1 + 0.25 * 0.75]
    assert unused.grad.tolist() == [1, 1]
    assert own.grad is None
    graph.backward()
    assert alpha.grad.dtype == dtype


def wrap(penalty):
    return tiny.wrap(tiny.search_model(), penalty=penalty)


class Numbers(Ridge):
    def value(self, alphas):
        return self.gamma * sum(a.detach().square().sum() for a in alphas)


class PerAlpha(Ridge):
    def value(self, alphas):
        return self.gamma * alphas[0]


class Neither(Penalty):
    def value(self, alphas):
        return self.gamma * alphas[0].sum()

    def residual_(self, gradients, alphas, factor):
        pass


class Mapless(ProximalPenalty):
    def value(self, alphas):
        return self.gamma * alphas[0].abs().sum()


@pytest.mark.parametrize(
    ("penalty", "error", "message"),
    [
        (dict(type=Numbers, gamma=1.0), RuntimeError, "Numbers.value does not depend on alpha"),
        (dict(type=PerAlpha, gamma=1.0), TypeError, "PerAlpha.value must return a tensor of one"),
        (dict(type=Neither, gamma=1.0), ValueError, "Neither would do nothing.*SmoothPenalty"),
        (dict(type=Mapless, gamma=1.0), ValueError, "Mapless.*does not define proximal_"),
        (dict(type=SmoothPenalty, gamma=1.0), ValueError, "does not define value"),
    ],
)
def test_what_would_do_nothing_is_refused_before_the_first_step(penalty, error, message):
    with pytest.raises(error, match=message):
        wrap(penalty)


@pytest.mark.parametrize("kind", [ProximalPenalty, Mapless, SmoothPenalty, Penalty])
def test_bases_cannot_be_instantiated(kind):
    with pytest.raises(TypeError, match="abstract"):
        kind(1.0)


def test_a_sound_penalty_of_a_user_leaves_no_gradient_behind():
    wrapper = wrap(dict(type=Ridge, gamma=1.0))
    assert all(p.grad is None for p in wrapper.stepper.players[ALPHA].params)


def test_every_registered_penalty_has_one_of_the_bases():
    for kind in PENALTIES.module_dict.values():
        assert issubclass(kind, SmoothPenalty) != issubclass(kind, ProximalPenalty), kind


def two_groups(factors=(1.0, 0.5)) -> Player:
    """Two alphas, the second of them in the optimiser's first group."""
    params = [torch.tensor([1.0, -2.0]), torch.tensor([3.0])]
    groups = [
        dict(params=[params[1]], lr=0.1, gamma_factor=factors[1]),
        dict(params=[params[0]], lr=0.2, gamma_factor=factors[0]),
    ]
    return Player(params, torch.optim.SGD(groups))


def test_each_group_has_its_own_gamma_factor():
    alpha = two_groups()
    weights = Lagrangian(penalties=(L1Penalty(0.1), ProximalL1(1.0)))
    assert float(weights.penalty(alpha)) == pytest.approx(1.1 * (1.0 * 3 + 0.5 * 3))
    for p in alpha.params:
        p.grad = torch.full_like(p, 2.0)
    residual = [2 + 1.1, 2 - 1.1, 2 + 0.55]
    assert weights.alpha_residual(alpha).item() == pytest.approx(torch.tensor(residual).norm())
    weights.add_penalty_gradient_(alpha)
    assert torch.cat([p.grad for p in alpha.params]).tolist() == pytest.approx([2.1, 1.9, 2.05])
    weights.proximal_(alpha)
    assert torch.cat(alpha.params).tolist() == pytest.approx([0.8, -1.8, 2.95])


def test_one_term_of_all_alphas_has_one_gamma_factor():
    latency = LatencyPenalty(dict(a=[1.0, 2.0], b=[4.0]), gamma=0.3)
    for factors in ((0.5, 0.5), (1.0, 0.5)):
        alpha = two_groups(factors)
        latency.bind(dict(zip("ab", alpha.params, strict=True)))
        weights = Lagrangian(penalties=(latency,))
        if factors[0] == factors[1]:
            assert float(weights.penalty(alpha)) == pytest.approx(0.5 * latency.value(alpha.params))
            continue
        for act in (weights.penalty, weights.add_penalty_gradient_):
            with pytest.raises(ValueError, match=r"LatencyPenalty is one term.*0\.5, 1.*separable"):
                act(alpha)


OWN = """
from rarts_mm.registry import PENALTIES
from rarts_mm.search import SmoothPenalty


@PENALTIES.register_module()
class OwnRidge(SmoothPenalty):
    def value(self, alphas):
        return 0.5 * self.gamma * sum((a - 0.25).square().sum() for a in alphas)
"""
CONFIG = """
_base_ = "{base}"
custom_imports = dict(imports=["rarts_mm", "own_penalty_of_a_user"], allow_failed_imports=False)
train_cfg = dict(max_epochs=1, val_interval=9)
optim_wrapper = dict(
    penalty=dict(_delete_=True, type="OwnRidge", gamma=1e5),
    alpha=dict(_delete_=True, type="OptimWrapper", optimizer=dict(type="SGD", lr=1e-5)))
param_scheduler = None
val_cfg = None
val_dataloader = None
val_evaluator = None
"""


@pytest.mark.slow
def test_a_users_module_is_all_that_tools_train_needs(tmp_path, small_config, monkeypatch):
    """A penalty so strong that each of alpha's steps leads to its minimum."""
    (tmp_path / "own_penalty_of_a_user.py").write_text(OWN)
    (tmp_path / "config.py").write_text(CONFIG.format(base=small_config))
    monkeypatch.syspath_prepend(tmp_path)
    try:
        status, _, err = run_tool("train", tmp_path / "config.py", "--work-dir", tmp_path / "out")
    finally:
        PENALTIES.module_dict.pop("OwnRidge", None)
    assert status == 0, err
    state = torch.load(tmp_path / "out" / "epoch_1.pth", weights_only=False)["state_dict"]
    scores = torch.cat([v for k, v in state.items() if k.startswith("alpha.")])
    torch.testing.assert_close(scores, torch.full_like(scores, 0.25), atol=1e-3, rtol=0)
