"""One loss scaler for all players, on a CPU in float64."""

import pytest
import torch

from rarts_mm.search import AUXILIARY, DARTS2, PRIMARY, RARTS
from tests.search.toy import Setting, Toy
from tests.search.toy_alternations import CASES


class Overflow(Toy):
    """The loss on one half is infinite."""

    half = PRIMARY

    def loss(self, network, half, part=0):
        loss = super().loss(network, half, part)
        return loss * float("inf") if half == self.half else loss


def test_fp16_overflow_skips_its_sub_step_and_those_after_it():
    toy = Overflow()
    stepper = Setting().stepper(toy, RARTS.players)
    stepper.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    before = [[p.detach().clone() for p in toy.weights(n)] for n in (AUXILIARY, PRIMARY)]
    alphas = [a.detach().clone() for a in toy.alphas]
    stepper.run(RARTS(), toy)
    assert not any(map(torch.equal, toy.weights(AUXILIARY), before[0]))
    assert all(map(torch.equal, toy.weights(PRIMARY), before[1]))
    assert all(map(torch.equal, toy.alphas, alphas))
    assert stepper.scaler.get_scale() == 4.0
    # The next step is a step again.
    Overflow.half = None
    try:
        stepper.run(RARTS(), toy)
    finally:
        Overflow.half = PRIMARY
    assert not any(map(torch.equal, toy.weights(PRIMARY), before[1]))
    assert not any(map(torch.equal, toy.alphas, alphas))


@pytest.mark.parametrize("name", ["rarts-jacobi", "joint"])
def test_simultaneous_updates_are_skipped_together(name):
    toy, rule = Overflow(), CASES[name].rule
    stepper = Setting().stepper(toy, rule.players)
    stepper.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    before = [t for t in toy.state() if t.dtype.is_floating_point]
    buffers = sum(b.dtype.is_floating_point for n in toy.networks.values() for b in n.buffers())
    stepper.run(rule, toy)
    same = [
        torch.equal(a, b)
        for a, b in zip((t for t in toy.state() if t.dtype.is_floating_point), before, strict=True)
    ]
    # Running statistics are the pass's, not the step's.
    assert same.count(False) <= buffers
    assert all(map(torch.equal, toy.alphas, before[-2:]))
    assert stepper.scaler.get_scale() == 4.0


@pytest.mark.parametrize("derivative", ["darts2", "darts2, exact"])
def test_overflow_at_the_virtual_point_moves_the_weights_and_not_alpha(derivative):
    toy, rule = Overflow(), CASES[derivative].rule
    stepper = Setting().stepper(toy, rule.players)
    stepper.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    weights = [w.detach().clone() for w in toy.weights(AUXILIARY)]
    alphas = [a.detach().clone() for a in toy.alphas]
    stepper.run(rule, toy)
    assert not any(map(torch.equal, toy.weights(AUXILIARY), weights))
    assert all(w.isfinite().all() for w in toy.weights(AUXILIARY))
    assert all(map(torch.equal, toy.alphas, alphas))
    assert stepper.scaler.get_scale() == 4.0


class Steep(torch.autograd.Function):
    """What it is given; its gradient is too large for any number type."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return g * float("inf")


class TooSteep(Toy):
    """The loss on one half is finite, its gradient is not."""

    def __init__(self, half):
        super().__init__()
        self.half = half

    def loss(self, network, half, part=0):
        loss = super().loss(network, half, part)
        return Steep.apply(loss) if half == self.half else loss


@pytest.mark.parametrize("half", [AUXILIARY, PRIMARY])
@pytest.mark.parametrize("derivative", ["finite-difference", "exact"])
@pytest.mark.parametrize("first", ["w", "alpha"])
def test_an_infinite_gradient_goes_no_further(half, derivative, first):
    """No number made of it, no pass at weights that it led to."""
    toy, rule = TooSteep(half), DARTS2(0.3, derivative, first)
    stepper = Setting().stepper(toy, rule.players)
    stepper.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    weights = [w.detach().clone() for w in toy.weights(AUXILIARY)]
    alphas = [a.detach().clone() for a in toy.alphas]
    losses = stepper.run(rule, toy)
    assert all(loss.isfinite() for loss in losses.values())
    assert all(map(torch.equal, toy.alphas, alphas))
    moved = half == PRIMARY and first == "w"
    assert any(map(torch.equal, toy.weights(AUXILIARY), weights)) != moved
    assert stepper.scaler.get_scale() == 4.0


@pytest.mark.parametrize("derivative", ["finite-difference", "exact"])
def test_without_a_scaler_an_infinite_gradient_is_seen_in_alpha(derivative):
    """So that the run ends as for any other number that is none."""
    toy, rule = TooSteep(PRIMARY), DARTS2(0.3, derivative)
    Setting().stepper(toy, rule.players).run(rule, toy)
    assert not all(a.isfinite().all() for a in toy.alphas)


@pytest.mark.parametrize("name", CASES)
def test_loss_scaling_changes_nothing_but_rounding(name):
    rule, scaled, plain = CASES[name].rule, Toy(), Toy()
    with_scaler = Setting(clip=0.05, penalties="latency and l1").stepper(scaled, rule.players)
    with_scaler.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    without = Setting(clip=0.05, penalties="latency and l1").stepper(plain, rule.players)
    with_scaler.measure = without.measure = True
    for _ in range(3):
        with_scaler.run(rule, scaled)
        without.run(rule, plain)
        for player, found in with_scaler.residuals.items():
            torch.testing.assert_close(found, without.residuals[player], rtol=1e-10, atol=1e-12)
    for found, wanted in zip(scaled.state(), plain.state(), strict=True):
        # The scaler computes its inverse scale in fp32; a power of two is exact.
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
