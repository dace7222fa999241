"""A network that skips a block at random: its alpha takes no part in that step's losses.

The loss's gradient by it is then zero, and the step is the printed formula's with this zero: penalties,
momentum and decay act, whatever made the zero.
"""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from rarts_mm.search import ALPHA, alpha_gradients, fill_missing_gradients_
from tests.search.toy import Net, Plain, Setting, Toy, assert_equal_states
from tests.search.toy_alternations import CASES

RULES = ["rarts", "rarts-jacobi", "darts1", "darts2, xi", "darts2, exact", "milenas", "joint"]
BOTH = frozenset({0, 1})
# Which alphas each step leaves out.
STEPS = (frozenset({1}), frozenset({0}), BOTH, frozenset(), frozenset({1}))


class Skipping(Net):
    """Where an alpha is skipped, its product is.

    Attributes:
        written_out: a skipped alpha stands in the graph with the factor zero instead.
    """

    skipped = frozenset()
    written_out = False

    def forward(self, x, alphas):
        one, two = (self.factor(a) if i in self.skipped else a for i, a in enumerate(alphas))
        x = torch.tanh(self.norm(self.first(x))) * one
        return self.third(torch.tanh(self.second(x)) * two)

    def factor(self, alpha):
        return 1.0 + 0.0 * alpha if self.written_out else 1.0


class SkippingToy(Toy):
    def __init__(self, norm=True, parts=None):
        super().__init__(norm, parts)
        for network in self.networks.values():
            network.__class__ = Skipping

    def skip(self, skipped):
        for network in self.networks.values():
            network.skipped = skipped


def pair(name, setting, **kwargs):
    toy, rule = SkippingToy(**kwargs), CASES[name].rule
    plain = Plain(toy, setting, rule.players)
    for network in plain.toy.networks.values():
        network.written_out = True
    return toy, plain, setting.stepper(toy, rule.players)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("penalties", ["none", "l1", "hard", "latency and proximal"])
def test_steps_are_the_formulas_with_a_zero(name, penalties):
    setting = Setting("sgd" if penalties == "none" else "adamw", penalties, clip=0.05)
    toy, plain, stepper = pair(name, setting)
    stepper.measure = True
    for skipped in STEPS:
        toy.skip(skipped)
        plain.toy.skip(skipped)
        before = [a.detach().clone() for a in toy.alphas]
        stepper.run(CASES[name].rule, toy)
        CASES[name].plain(plain)
        assert_equal_states(toy, plain)
        assert stepper.residuals[ALPHA].item() == pytest.approx(plain.residuals[ALPHA])
    # The last step left the second out: momentum moves it all the same.
    assert not torch.equal(toy.alphas[1].detach(), before[1])


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("penalties", ["none", "proximal"])
def test_a_loss_scaler_several_processes_and_parts_of_batches_change_nothing(name, penalties):
    """Each meets missing gradients in a place of its own."""
    setting, rule = Setting(penalties=penalties), CASES[name].rule
    parts = {"auxiliary": (4, 5), "primary": (3, 6)}
    toys = [SkippingToy(norm=False, parts=p) for p in (None, None, None, parts)]
    steppers = [setting.stepper(toy, rule.players) for toy in toys]
    steppers[1].scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    # What averaging over processes does before it sums.
    steppers[2].reduce = fill_missing_gradients_
    for skipped in STEPS:
        for toy, stepper in zip(toys, steppers, strict=True):
            toy.skip(skipped)
            stepper.run(rule, toy)
    for toy in toys[1:]:
        for found, wanted in zip(toy.state(), toys[0].state(), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("alpha_moves", [True, False])
def test_an_alpha_that_never_gets_a_gradient_ends_the_search(alpha_moves, monkeypatch):
    monkeypatch.setattr(alpha_gradients, "PATIENCE", 7)
    toy, _, stepper = pair("joint", Setting())
    toy.skip({1})
    rule = CASES["joint"].rule
    # The first step may be a probe, where alpha rests.
    stepper.run(rule, toy, alpha_moves=alpha_moves)
    for _ in range(7 - 2):
        stepper.run(rule, toy)
    with pytest.raises(RuntimeError, match=r"1 of 2 .*numbers \[1\].*first 7 steps"):
        stepper.run(rule, toy)


def test_an_alpha_that_gets_one_late_does_not(monkeypatch):
    monkeypatch.setattr(alpha_gradients, "PATIENCE", 7)
    toy, _, stepper = pair("joint", Setting())
    for step in range(9):
        toy.skip({1} if step != 5 else {0})
        stepper.run(CASES["joint"].rule, toy)


class Reentrant(Net):
    """Activation checkpointing of the kind that drops the second alpha's gradient in silence."""

    def forward(self, x, alphas):
        x = torch.tanh(self.norm(self.first(x))) * alphas[0]
        return self.third(checkpoint(self.scored, x, alphas[1].detach(), use_reentrant=True))

    def scored(self, x, alpha):
        return torch.tanh(self.second(x)) * alpha


@pytest.mark.parametrize("alpha_moves", [True, False])
def test_reentrant_checkpointing_is_told_from_skipping_at_once(alpha_moves):
    toy = Toy()
    for network in toy.networks.values():
        assert isinstance(network, nn.Module)
        network.__class__ = Reentrant
    stepper = Setting().stepper(toy, CASES["rarts"].rule.players)
    with pytest.raises(RuntimeError, match=r"numbers \[1\].*in the first step.*reentrant"):
        stepper.run(CASES["rarts"].rule, toy, alpha_moves=alpha_moves)
