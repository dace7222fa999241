"""Second-order DARTS: the finite difference against the exact derivative, and what cannot be had."""

import itertools
import math

import pytest
import torch
from mmcv.ops import RoIAlign
from torch.nn import functional as F

from rarts_mm.search import ALPHA, AUXILIARY, DARTS2, PRIMARY
from rarts_mm.search.alternations import second_order
from tests.search.toy import Plain, Setting, Toy, finite_difference, hypergradient


def alpha_gradient(setting: Setting, derivative: str, monkeypatch, distance=0.01):
    """The hypergradient of the package, in a step in which nothing but alpha moves, by SGD."""
    toy, rule = Toy(), DARTS2(0.3, derivative, first="alpha")
    stepper = setting.stepper(toy, rule.players)
    for _ in range(2):  # so that momentum takes part
        stepper.run(DARTS2(0.3, "exact", first="alpha"), toy)
    stepper.players[ALPHA].optimizer = torch.optim.SGD(toy.alphas, lr=1.0)
    before = [a.detach().clone() for a in toy.alphas]
    monkeypatch.setattr(second_order, "_DISTANCE", distance)
    stepper.run(rule, toy)
    return torch.cat([(b - a).detach() for a, b in zip(toy.alphas, before, strict=True)])


@pytest.mark.parametrize("optimizer", ["sgd", "nesterov", "adamw"])
def test_finite_difference_is_of_second_order(optimizer, monkeypatch):
    setting = Setting(optimizer, penalties="none")
    exact = alpha_gradient(setting, "exact", monkeypatch)
    distances = (0.08, 0.04, 0.02, 0.01)
    errors = [
        (alpha_gradient(setting, "finite-difference", monkeypatch, d) - exact).norm().item()
        for d in distances
    ]
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(2, abs=0.05)
    assert errors[-1] < 1e-3 * exact.norm()


@pytest.mark.parametrize("xi", [0.0, 0.01, 0.3, None])
def test_both_plain_derivatives_agree(xi):
    """The reference that the package is compared with, against itself and against differences."""
    plain = Plain(Toy(), Setting(penalties="none"), (AUXILIARY, ALPHA))
    exact = torch.cat(hypergradient(plain, xi))
    if xi != 0:
        close = torch.cat(finite_difference(plain, xi, distance=1e-4))
        torch.testing.assert_close(close, exact, rtol=1e-6, atol=1e-7)

    def validation(alphas):
        virtual = torch.autograd.grad(
            plain.loss(AUXILIARY, AUXILIARY, alphas=alphas), plain.params(AUXILIARY)
        )
        group = plain.optimizers[AUXILIARY].param_groups[0]
        length = group["lr"] if xi is None else xi
        there = [
            (w - length * (g + group["weight_decay"] * w)).detach()
            for w, g in zip(plain.params(AUXILIARY), virtual, strict=True)
        ]
        return plain.loss(AUXILIARY, PRIMARY, weights=there, alphas=alphas).item()

    h = 1e-5
    for i in (0, 3, 6):
        sides = []
        for sign in (1, -1):
            alphas = [a.detach().clone() for a in plain.alphas]
            alphas[0][i] += sign * h
            sides.append(validation(alphas))
        assert (sides[0] - sides[1]) / (2 * h) == pytest.approx(exact[i].item(), abs=1e-8)


def test_second_order_is_more_than_first_order():
    plain = Plain(Toy(), Setting(penalties="none"), (AUXILIARY, ALPHA))
    near, far = (torch.cat(hypergradient(plain, xi)) for xi in (0.0, 0.3))
    assert (near - far).norm() > 0.01 * near.norm()


@pytest.mark.parametrize("derivative", ["finite-difference", "exact"])
def test_no_virtual_step_is_first_order(derivative):
    """With xi = 0 the gradient is dL_p/dalpha at w; nothing is divided by zero."""
    toy, rule = Toy(), DARTS2(0.0, derivative, first="alpha")
    plain = Plain(toy, Setting(penalties="none"), rule.players)
    wanted = plain.gradient(plain.loss(AUXILIARY, PRIMARY), ALPHA)
    stepper = Setting(penalties="none").stepper(toy, rule.players)
    stepper.players[ALPHA].optimizer = torch.optim.SGD(toy.alphas, lr=1.0)
    before = [a.detach().clone() for a in toy.alphas]
    stepper.run(rule, toy)
    for a, b, g in zip(toy.alphas, before, wanted, strict=True):
        torch.testing.assert_close((b - a).detach(), g, rtol=1e-10, atol=1e-12)


def test_attention_is_differentiated_twice():
    """torch's fused attention cannot be; the exact derivative takes another one."""

    class Attending(Toy):
        def loss(self, network, half, part=0):
            x, y = self.batches[half]
            net = self.networks[network]
            hidden = net.norm(net.first(x)) * self.alphas[0]
            q = hidden.reshape(1, 1, 9, 7)
            hidden = F.scaled_dot_product_attention(q, q, q).reshape(9, 7)
            return F.cross_entropy(net.third(net.second(hidden) * self.alphas[1]), y)

    grads = []
    for derivative in ("exact", "finite-difference"):
        toy, rule = Attending(), DARTS2(0.3, derivative, first="alpha")
        stepper = Setting(penalties="none").stepper(toy, rule.players)
        stepper.players[ALPHA].optimizer = torch.optim.SGD(toy.alphas, lr=1.0)
        before = torch.cat([a.detach().clone() for a in toy.alphas])
        stepper.run(rule, toy)
        grads.append(before - torch.cat([a.detach() for a in toy.alphas]))
    torch.testing.assert_close(*grads, rtol=1e-3, atol=1e-4)


class Once(torch.autograd.Function):
    """Twice its input, differentiable once."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 2 * g


REGIONS = torch.tensor([[0.0, 0.2, 0.1, 2.5, 2.7]], dtype=torch.float64)


@pytest.mark.parametrize(
    "layer", [Once.apply, lambda h: RoIAlign(3)(h.reshape(1, 7, 3, 3), REGIONS).reshape(9, 7)]
)
@pytest.mark.parametrize("alpha_moves", [True, False])
def test_a_layer_that_cannot_be_differentiated_twice_is_refused(layer, alpha_moves):
    """torch.autograd.grad leaves out in silence what passes such a layer.

    In the first step, also where alpha rests until a warm-up is over.
    """

    class Rough(Toy):
        def loss(self, network, half, part=0):
            x, y = self.batches[half]
            net = self.networks[network]
            hidden = layer(torch.tanh(net.first(x)) * self.alphas[0])
            return F.cross_entropy(net.third(net.second(hidden) * self.alphas[1]), y)

    for first in ("w", "alpha"):
        toy = Rough()
        rule = DARTS2(0.3, "exact", first)
        weights = [w.detach().clone() for w in toy.weights(AUXILIARY)]
        with pytest.raises(RuntimeError, match=r"twice.*derivative='finite-difference'"):
            Setting().stepper(toy, rule.players).run(rule, toy, alpha_moves)
        late = first == "w" and alpha_moves
        assert late or all(map(torch.equal, toy.weights(AUXILIARY), weights))
    toy, rule = Rough(), DARTS2(0.3)
    alphas = [a.detach().clone() for a in toy.alphas]
    Setting().stepper(toy, rule.players).run(rule, toy)
    assert not any(map(torch.equal, toy.alphas, alphas))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(xi=-0.1), r"xi=-0.1"),
        (dict(xi=float("nan")), r"xi=nan"),
        (dict(xi="1"), r"xi='1'"),
        (dict(derivative="Exact"), r"'Exact'.*finite-difference"),
        (dict(first="u"), r"first='u'.*'alpha'"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        DARTS2(**arguments)


@pytest.mark.parametrize("power", [1, 2])
def test_a_loss_that_does_not_read_alpha_in_the_mixed_term(power):
    """L_a without alpha: the mixed derivative vanishes, by both ways."""

    class Apart(Toy):
        def loss(self, network, half, part=0):
            if half == PRIMARY:
                return super().loss(network, half, part)
            w, *_ = self.weights(network)
            # Alpha enters, so that it has a gradient, but not together with w.
            return (w**power).sum() + sum((a**2).sum() for a in self.alphas)

    ends = []
    for derivative in ("exact", "finite-difference"):
        toy, rule = Apart(), DARTS2(0.3, derivative)
        stepper = Setting(penalties="none").stepper(toy, rule.players)
        stepper.run(rule, toy)
        ends.append(torch.cat([a.detach() for a in toy.alphas]))
    torch.testing.assert_close(*ends, rtol=1e-10, atol=1e-10)
