"""One step of an alternation on a small network equals the printed formula, by plain autograd."""

import copy
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rarts_mm.search import (
    ALPHA,
    AUXILIARY,
    PRIMARY,
    RARTS,
    Joint,
    L1Penalty,
    Lagrangian,
    Player,
    Problem,
    Stepper,
    frozen_statistics,
)

LAM, BETA, GAMMA = 0.7, 0.3, 0.05


class Net(nn.Module):
    """Two layers with scores between; alpha is given, as both networks share it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 7)
        self.norm = nn.BatchNorm1d(7)
        self.second = nn.Linear(7, 3)

    def forward(self, x, alpha):
        return self.second(torch.tanh(self.norm(self.first(x))) * alpha)


class Toy(Problem):
    def __init__(self, networks, alpha, batches):
        self.networks, self.alpha, self.batches = networks, alpha, batches
        self.needed = []

    def loss(self, network, half):
        x, y = self.batches[half]
        weights = next(self.networks[network].parameters())
        self.needed.append((network, half, weights.requires_grad, self.alpha.requires_grad))
        return F.cross_entropy(self.networks[network](x, self.alpha), y)

    @contextmanager
    def frozen_statistics(self, network):
        with frozen_statistics(self.networks[network]):
            yield


@pytest.fixture
def toy():
    torch.manual_seed(1)
    networks = {AUXILIARY: Net().double(), PRIMARY: Net().double()}
    alpha = (torch.randn(7, dtype=torch.float64)).requires_grad_()
    batches = {
        half: (torch.randn(9, 5, dtype=torch.float64), torch.randint(3, (9,)))
        for half in (AUXILIARY, PRIMARY)
    }
    return Toy(networks, alpha, batches)


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.1),
}


def clip_of(params, limit):
    return lambda: nn.utils.clip_grad_norm_(params, limit)


def make_stepper(toy, names, optimizer, clip=None):
    players = {}
    for name in names:
        params = [toy.alpha] if name == ALPHA else list(toy.networks[name].parameters())
        clipping = clip_of(params, clip) if clip and name != ALPHA else None
        players[name] = Player(params, OPTIMIZERS[optimizer](params), clipping)
    return Stepper(players, Lagrangian(LAM, BETA, (L1Penalty(GAMMA),)))


def state(toy):
    return [p.detach().clone() for n in toy.networks.values() for p in n.parameters()] + [
        toy.alpha.detach().clone()
    ]


def gradient(loss, params):
    return list(torch.autograd.grad(loss, params))


def clipped(gradients, limit):
    if not limit:
        return gradients
    norm = torch.sqrt(sum((g**2).sum() for g in gradients))
    # torch adds 1e-6 to the norm it divides by.
    return [g * torch.clamp(limit / (norm + 1e-6), max=1) for g in gradients]


def apply(optimizer, params, gradients):
    for p, g in zip(params, gradients, strict=True):
        p.grad = g.clone()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
@pytest.mark.parametrize("clip", [None, 0.05])
def test_rarts_is_the_printed_formula(toy, optimizer, clip):
    plain = copy.deepcopy(toy)
    stepper = make_stepper(toy, (AUXILIARY, PRIMARY, ALPHA), optimizer, clip)

    w_net, u_net, a = plain.networks[AUXILIARY], plain.networks[PRIMARY], plain.alpha
    w, u = list(w_net.parameters()), list(u_net.parameters())
    opt_w, opt_u, opt_a = (OPTIMIZERS[optimizer](p) for p in (w, u, [a]))
    for _ in range(3):
        stepper.run(RARTS(), toy)

        loss = plain.loss(AUXILIARY, AUXILIARY)
        g = clipped([LAM * x for x in gradient(loss, w)], clip)
        apply(opt_w, w, [x + BETA * (p - q).detach() for x, p, q in zip(g, w, u, strict=True)])
        g = clipped(gradient(plain.loss(PRIMARY, PRIMARY), u), clip)
        apply(opt_u, u, [x + BETA * (p - q).detach() for x, p, q in zip(g, u, w, strict=True)])
        w_net.eval(), u_net.eval()
        w_net.norm.training = u_net.norm.training = True
        with frozen_statistics(w_net), frozen_statistics(u_net):
            (g_a,) = gradient(plain.loss(AUXILIARY, AUXILIARY), [a])
            (g_p,) = gradient(plain.loss(PRIMARY, PRIMARY), [a])
        apply(opt_a, [a], [LAM * g_a + g_p + GAMMA * a.detach().sign()])
        for found, wanted in zip(state(toy), state(plain), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


def test_joint_is_the_printed_formula(toy):
    plain = copy.deepcopy(toy)
    stepper = make_stepper(toy, (AUXILIARY, ALPHA), "sgd")
    net, a = plain.networks[AUXILIARY], plain.alpha
    w = list(net.parameters())
    opt_w, opt_a = OPTIMIZERS["sgd"](w), OPTIMIZERS["sgd"]([a])
    for _ in range(3):
        stepper.run(Joint(), toy)
        loss = LAM * plain.loss(AUXILIARY, AUXILIARY) + plain.loss(AUXILIARY, PRIMARY)
        *g_w, g_a = gradient(loss, [*w, a])
        apply(opt_w, w, g_w)
        apply(opt_a, [a], [g_a + GAMMA * a.detach().sign()])
        for found, wanted in zip(state(toy), state(plain), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


def test_no_gradient_is_computed_that_no_update_uses(toy):
    stepper = make_stepper(toy, (AUXILIARY, PRIMARY, ALPHA), "sgd")
    stepper.run(RARTS(), toy)
    # (network, half, weights need a gradient, alpha needs one)
    assert toy.needed == [
        (AUXILIARY, AUXILIARY, True, False),
        (PRIMARY, PRIMARY, True, False),
        (AUXILIARY, AUXILIARY, False, True),
        (PRIMARY, PRIMARY, False, True),
    ]
    # Afterwards everything is as before: trainable, and no gradient is left lying about.
    for player in stepper.players.values():
        assert all(p.requires_grad and p.grad is None for p in player.params)


def test_running_statistics_count_every_batch_once(toy):
    stepper = make_stepper(toy, (AUXILIARY, PRIMARY, ALPHA), "sgd")
    reference = copy.deepcopy(toy)
    for half in (AUXILIARY, PRIMARY):
        reference.loss(half, half)
    stepper.run(RARTS(), toy)
    for half in (AUXILIARY, PRIMARY):
        found, wanted = toy.networks[half].norm, reference.networks[half].norm
        assert found.num_batches_tracked == 1
        torch.testing.assert_close(found.running_mean, wanted.running_mean, rtol=0, atol=0)
        torch.testing.assert_close(found.running_var, wanted.running_var, rtol=0, atol=0)


def test_fp16_overflow_skips_its_sub_step_and_those_after_it(toy):
    class Overflow(Toy):
        def loss(self, network, half):
            loss = super().loss(network, half)
            return loss * float("inf") if network == PRIMARY else loss

    toy = Overflow(toy.networks, toy.alpha, toy.batches)
    stepper = make_stepper(toy, (AUXILIARY, PRIMARY, ALPHA), "sgd")
    stepper.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    before = state(toy)
    n = len(list(toy.networks[AUXILIARY].parameters()))
    stepper.run(RARTS(), toy)
    after = state(toy)
    assert not any(torch.equal(a, b) for a, b in zip(before[:n], after[:n], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before[n:], after[n:], strict=True))
    assert stepper.scaler.get_scale() == 4.0


def test_loss_scaling_changes_nothing_but_rounding(toy):
    plain = copy.deepcopy(toy)
    scaled = make_stepper(toy, (AUXILIARY, PRIMARY, ALPHA), "sgd", clip=0.05)
    scaled.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    unscaled = make_stepper(plain, (AUXILIARY, PRIMARY, ALPHA), "sgd", clip=0.05)
    for _ in range(3):
        scaled.run(RARTS(), toy)
        unscaled.run(RARTS(), plain)
    for found, wanted in zip(state(toy), state(plain), strict=True):
        # The scaler computes its inverse scale in fp32; a power of two is exact.
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


def test_alpha_without_a_gradient_is_an_error_in_the_first_step(toy):
    class Detached(Toy):
        def loss(self, network, half):
            x, y = self.batches[half]
            loss = F.cross_entropy(self.networks[network](x, self.alpha.detach()), y)
            return loss + 0 * self.other.sum()

    toy = Detached(toy.networks, toy.alpha, toy.batches)
    toy.other = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    stepper = make_stepper(toy, (AUXILIARY, PRIMARY, ALPHA), "sgd")
    with pytest.raises(RuntimeError, match=r"got no gradient in the first step.*reentrant"):
        stepper.run(RARTS(), toy)
