"""``rarts_mm.Search``: alternations on any network, from a loop of one's own."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

import rarts_mm
from rarts_mm.search import ProximalL1
from tests.widths.flow import networks

SGD = partial(torch.optim.SGD, lr=0.05)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3),
    ).double()  # fmt: skip


def batch(seed: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(4, 2, 9, 7, generator=generator, dtype=dtype)
    return images, torch.randint(3, (4,), generator=generator)


def loss(model: nn.Module, data: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return F.cross_entropy(model(data[0]), data[1])


def search(model: nn.Module | None = None, **arguments) -> rarts_mm.Search:
    settings = dict(inputs=batch(0)[0], optimizer=SGD, alpha_optimizer=SGD, beta=0.3, lam=0.7)
    return rarts_mm.Search(model or network(), loss, **(settings | arguments))


def test_a_step_is_that_of_the_formulas():
    """Thesis, Algorithm 2, written out for this network; batch norms in training mode."""
    model = network().train()
    w = {n: p.detach().clone() for n, p in model.named_parameters()}
    u = {n: p.clone() for n, p in w.items()}
    alpha = {"0": torch.ones(6).double(), "3": torch.ones(5).double()}
    gamma, eta, beta, lam = 1e-2, 0.05, 0.3, 0.7

    def value(weights, scores, data):
        # The scores stand in front of the layers that read the channels.
        scaled = dict(weights)
        scaled["3.weight"] = weights["3.weight"] * scores["0"].view(1, -1, 1, 1)
        scaled["7.weight"] = weights["7.weight"] * scores["3"]
        out = functional_call(copy.deepcopy(model), scaled, (data[0],))
        return F.cross_entropy(out, data[1])

    def descended(of, by, pull=None):
        leaves = {n: p.clone().requires_grad_() for n, p in of.items()}
        gradients = torch.autograd.grad(by(leaves), list(leaves.values()))
        return {
            n: p - eta * (g + (0 if pull is None else beta * (p - pull[n])))
            for (n, p), g in zip(of.items(), gradients, strict=True)
        }

    found = search(penalty=gamma)
    for number in range(3):
        a, p = batch(10 + number), batch(20 + number)
        w = descended(w, lambda x: lam * value(x, alpha, a), pull=u)  # noqa: B023
        u = descended(u, lambda x: value(x, alpha, p), pull=w)  # noqa: B023
        alpha = descended(
            alpha,
            lambda x: (
                value(u, x, p)  # noqa: B023
                + lam * value(w, x, a)  # noqa: B023
                + gamma * sum(each.abs().sum() for each in x.values())
            ),
        )
        found.step(a, p)
    for name, kind in (("auxiliary", w), ("primary", u)):
        for key, parameter in found.networks[name].named_parameters():
            torch.testing.assert_close(parameter.detach(), kind[key], rtol=1e-11, atol=1e-13)
    for name, scores in found.alpha.items():
        torch.testing.assert_close(scores.detach(), alpha[name], rtol=1e-11, atol=1e-13)
    # Passes for alpha do not count in the statistics.
    assert found.model[1].num_batches_tracked == 3


@pytest.mark.parametrize(
    "alternation", ["RARTS", "RARTSJacobi", "DARTS1", "DARTS2", "MiLeNAS", "Joint"]
)
def test_every_alternation_ends_in_a_smaller_network(alternation, tmp_path):
    model = network()
    before = copy.deepcopy(model.state_dict())
    uses = rarts_mm.registry.ALTERNATIONS.get(alternation).uses
    weights = {name: 0.3 if name in uses else None for name in ("lam", "beta")}
    found = search(model, alternation=alternation, penalty=[ProximalL1(gamma=1e-2)], **weights)
    for number in range(2):
        losses = found.step(batch(number), batch(50 + number))
    assert losses["penalty"] > 0
    result = found.prune(params=0.6, criterion="alpha")
    assert result.proof.error <= 1e-11
    assert result.proof.error_training <= 1e-7
    assert result.parameters[1] <= 0.6 * result.parameters[0]
    assert result.widths == {name: len(index) for name, index in result.kept.items()}
    result.save(tmp_path / "out")
    again = rarts_mm.load(model, tmp_path / "out").eval()
    x = batch(7)[0]
    torch.testing.assert_close(again(x), result.model.eval()(x), rtol=0, atol=0)
    # The given model is what it was, and the search can go on.
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    found.step(batch(8), batch(9))


def test_a_search_that_goes_on_is_the_uninterrupted_one():
    adam = partial(torch.optim.Adam, lr=1e-2)
    whole, first = (search(optimizer=adam, alpha_optimizer=adam) for _ in range(2))
    for number in range(4):
        whole.step(batch(number), batch(60 + number))
    for number in range(2):
        first.step(batch(number), batch(60 + number))
    state = copy.deepcopy(first.state_dict())
    second = search(network(seed=3), optimizer=adam, alpha_optimizer=adam)
    second.load_state_dict(state)
    for number in range(2, 4):
        second.step(batch(number), batch(60 + number))
    for name, scores in whole.alpha.items():
        assert torch.equal(scores, second.alpha[name])
    wanted = whole.model.state_dict()
    assert all(torch.equal(v, wanted[k]) for k, v in second.model.state_dict().items())
    with pytest.raises(ValueError, match="of another search"):
        search(exclude="7").load_state_dict(state)


def test_heads_and_inputs_by_name():
    def squared(model, data):
        return model(x=data).square().mean()

    torch.manual_seed(0)
    model = networks.FusedAttention().double()
    x = torch.randn(2, 7, 6).double()
    found = rarts_mm.Search(model, squared, inputs={"x": x}, optimizer=SGD, heads=True)
    assert found.alpha["qkv"].numel() == 2
    found.step(x, 2 * x)
    result = found.prune(0.5, scope="layer")
    assert result.model.heads == 1
    assert result.model.eval()(x).shape == model(x).shape


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(alternation="RATS"), "RATS.*must be one of.*RARTS"),
        (dict(optimizer=torch.optim.LBFGS), "first-order"),
        (dict(optimizer=0.1), "made from parameters"),
        (dict(optimizer=SGD(network().parameters())), "made from parameters"),
        (dict(optimizer=lambda params: SGD(params[:1])), "move all of them"),
        (dict(alternation="DARTS1", lam=0.5, beta=None), "lam=0.5 would do nothing"),
        (
            dict(keep="primary", alternation="DARTS1", lam=None, beta=None),
            "keep='primary' is no network of DARTS1",
        ),
        (dict(beta=-1.0), "beta"),
        (dict(include="nothing"), "nothing"),
    ],
)
def test_arguments_that_make_no_sense(arguments, words):
    with pytest.raises(ValueError, match=words):
        search(**arguments)


def test_what_a_loss_returns_is_looked_at():
    found = rarts_mm.Search(
        network(), lambda model, data: model(data[0]), inputs=batch(0)[0], optimizer=SGD
    )
    with pytest.raises(ValueError, match="scalar tensor, got \\(4, 3\\)"):
        found.step(batch(1), batch(2))


def test_scores_that_nothing_has_moved_are_no_ranking():
    with pytest.raises(ValueError, match="has not moved"):
        search().prune(0.4)
    assert search().prune(0.4, criterion="magnitude").proof.error <= 1e-11
    with pytest.raises(ValueError, match="Give one of ratio"):
        search().prune()


def test_frozen_layers_and_those_at_rest_stay_so():
    model = network().train()
    model[0].requires_grad_(False)
    model[1].eval()
    found = search(model)
    before = copy.deepcopy(found.model[1].state_dict())
    found.step(batch(1), batch(2))
    assert torch.equal(found.model[1].running_mean, before["running_mean"])
    result = found.prune(0.4)
    assert not result.model[0].weight.requires_grad
    assert result.model[3].weight.requires_grad
    assert result.model.training
    assert not result.model[1].training


def test_the_state_of_another_search_is_refused_in_words():
    state = search().state_dict()
    other = search(alternation="DARTS1", lam=None, beta=None)
    before = copy.deepcopy(other.model.state_dict())
    with pytest.raises(
        ValueError, match="its networks are auxiliary, primary, this one's auxiliary"
    ):
        other.load_state_dict(state)
    state["networks"]["primary"]["0.weight"] = torch.zeros(1)
    with pytest.raises(ValueError, match=r"0\.weight of primary is"):
        search().load_state_dict(state)
    assert all(torch.equal(v, before[k]) for k, v in other.model.state_dict().items())
