"""Steps of every alternation equal the printed formulas, by plain autograd, to 1e-10."""

import pytest
import torch

from rarts_mm.registry import ALTERNATIONS
from rarts_mm.search import ALPHA
from tests.search.toy import OPTIMIZERS, PENALTIES, Plain, Setting, Toy, assert_equal_states
from tests.search.toy_alternations import CASES

each_alternation = pytest.mark.parametrize("name", CASES)


def check(name: str, setting: Setting, steps: int = 3) -> None:
    case, toy = CASES[name], Toy()
    plain = Plain(toy, setting, case.rule.players)
    stepper = setting.stepper(toy, case.rule.players)
    before = toy.state()
    for _ in range(steps):
        stepper.run(case.rule, toy)
        case.plain(plain)
        assert_equal_states(toy, plain)
        moved = toy.alphas[0].detach() != before[-2]
        assert moved.any() == (ALPHA in case.rule.players)


def test_every_registered_alternation_is_here():
    assert {type(case.rule) for case in CASES.values()} == set(ALTERNATIONS.module_dict.values())


@each_alternation
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizers(name, optimizer):
    check(name, Setting(optimizer))


@each_alternation
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_clipping_comes_before_coupling_and_penalty(name, optimizer):
    check(name, Setting(optimizer, clip=0.05))


@each_alternation
@pytest.mark.parametrize("penalties", PENALTIES)
def test_penalties(name, penalties):
    check(name, Setting(penalties=penalties))


@pytest.mark.parametrize("name", ["rarts", "rarts-jacobi", "darts2, exact"])
@pytest.mark.parametrize("penalties", ["l1", "proximal", "hard", "latency and proximal"])
def test_the_factor_of_gamma(name, penalties):
    check(name, Setting(penalties=penalties, gamma_factor=0.4))


@pytest.mark.parametrize("name", ["rarts", "rarts-jacobi"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_decoupled_coupling(name, optimizer):
    check(name, Setting(optimizer, coupling="decoupled", clip=0.05))


def test_coupling_matters_to_what_is_compared():
    ends = []
    for coupling in ("gradient", "decoupled"):
        toy = Toy()
        stepper = Setting(coupling=coupling).stepper(toy, CASES["rarts"].rule.players)
        for _ in range(3):
            stepper.run(CASES["rarts"].rule, toy)
        ends.append(toy.alphas[0].detach().clone())
    assert not torch.allclose(*ends, atol=1e-8)


@each_alternation
@pytest.mark.parametrize("parts", [(4, 5), (2, 6, 1)])
def test_parts_of_a_batch_equal_the_whole(name, parts):
    """Unequal micro-batches; without batch norm, which sees each part for itself."""
    setting, rule = Setting(penalties="latency and l1", clip=0.05), CASES[name].rule
    parts = {"auxiliary": parts, "primary": parts[::-1]}
    cut, whole = Toy(norm=False, parts=parts), Toy(norm=False)
    of_cut, of_whole = (setting.stepper(toy, rule.players) for toy in (cut, whole))
    for _ in range(3):
        losses = of_cut.run(rule, cut)
        wanted = of_whole.run(rule, whole)
        assert set(losses) == set(wanted)
        for half, loss in losses.items():
            torch.testing.assert_close(loss, wanted[half], rtol=1e-12, atol=1e-12)
    assert len(cut.passes) > len(whole.passes)
    for a, b in zip(cut.state(), whole.state(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["rarts", "rarts-jacobi", "darts2", "joint"])
def test_a_parameter_outside_the_loss_feels_nothing_but_the_coupling(name):
    """A bias that the loss does not read moves by decay and by its twin alone."""
    toy, rule = Toy(), CASES[name].rule
    for network in toy.networks.values():
        network.extra = torch.nn.Parameter(torch.tensor([0.5, -1.0], dtype=torch.float64))
    toy.networks["primary"].extra.data.mul_(3)
    setting = Setting()
    stepper = setting.stepper(toy, rule.players)
    w, u = (toy.networks[n].extra.detach().clone() for n in ("auxiliary", "primary"))
    stepper.run(rule, toy)
    decay, beta, eta = 0.01, 0.3, 0.1
    coupled = "primary" in rule.players
    # torch leaves alone what has no gradient; the coupling gives it one, and decay comes with that.
    wanted = w - eta * (decay * w + beta * (w - u)) if coupled else w
    torch.testing.assert_close(toy.networks["auxiliary"].extra.detach(), wanted)
