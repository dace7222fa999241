"""Criteria that look at the loss: what a removed channel changes is known where the loss is linear in it."""

import copy

import pytest
import torch
from torch import nn

import rarts_mm
from rarts_mm.widths import importance, scores_of
from rarts_mm.widths.derivatives import measure_derivatives
from rarts_mm.widths.flow import find_groups
from rarts_mm.widths.flow.scoring import insert_group_scores
from rarts_mm.widths.running import show_training_branches
from tests import tiny


class Network(nn.Module):
    """Two layers whose sum of outputs is linear in each hidden channel; what is random must not be so here."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Conv2d(6, 4, 1)

    def forward(self, x):
        return self.last(self.drop(self.norm(self.stem(x)).relu()))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return tiny.randomize(Network().double())


def images(number, size=(9, 7)):
    generator = torch.Generator().manual_seed(number)
    return torch.randn(number, 3, *size, dtype=torch.float64, generator=generator)


def scored(network):
    groups = find_groups(network, images(2), scored=True)
    alphas = {}
    for name, group in groups.groups.items():
        alphas[name] = torch.linspace(-1, 2, group.size, dtype=torch.float64)
        insert_group_scores(network, groups, name, alphas[name])
    return groups, alphas


def test_it_is_what_the_removal_changes_and_its_square(network):
    groups, alphas = scored(network)
    ((name, alpha),) = alphas.items()
    batches = [images(n) for n in (1, 2, 3)]
    network.eval()
    with torch.no_grad():
        before = [network(x).sum() for x in batches]
        changes = []
        for i in range(6):
            value = alpha[i].clone()
            alpha[i] = 0
            changes.append(
                torch.stack([b - network(x).sum() for b, x in zip(before, batches, strict=True)])
            )
            alpha[i] = value
    losses = [lambda x=x: network(x).sum() for x in batches]
    written = {name: groups.groups[name].written(network)}
    found = measure_derivatives(network, alphas, losses, written)
    changes = torch.stack(changes)
    torch.testing.assert_close(found.absolute[name], changes.abs().mean(1))
    torch.testing.assert_close(found.square[name], changes.square().mean(1))
    # Maps of 5 x 4 of 1, 2 and 3 images.
    assert found.memory == {name: pytest.approx(20 * 2)}
    assert found.count == 3


def test_nothing_draws_random_numbers():
    """Layers of dropout are at rest, and so is an attention that drops by itself."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.5, batch_first=True).double()
    show_training_branches(layer)
    assert layer.training
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    assert torch.equal(layer(x), layer(x))


def test_the_lowest_go(network):
    batches = [images(1), images(2)]
    state = copy.deepcopy(network.state_dict())

    def loss(model, batch):
        return model(batch).sum()

    _, alphas = scored(plain := copy.deepcopy(network))
    for alpha in alphas.values():
        alpha.fill_(1)
    derivatives = measure_derivatives(plain, alphas, [lambda x=x: loss(plain, x) for x in batches])
    ((name, numbers),) = derivatives.absolute.items()
    for criterion in ("taylor", "fisher"):
        smaller = rarts_mm.prune(
            network, images(2), 0.5, criterion=criterion, data=batches, loss=loss
        )
        wanted = derivatives.square[name] if criterion == "fisher" else numbers
        assert smaller.kept[name].tolist() == wanted.argsort()[3:].sort().values.tolist()
    # The given network is as it was: weights, statistics, and what is trained.
    assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())
    assert all(p.requires_grad for p in network.parameters())
    assert network.training


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict(criterion="taylor"), "ranks by the loss: give data"),
        (dict(criterion="fisher", data=[1]), "ranks by the loss: give data"),
        (
            dict(data=[1], loss=lambda model, batch: 1),
            "Only the criteria taylor, fisher look at data",
        ),
        (dict(criterion="taylor", data=[], loss=lambda m, b: 1), "no data"),
        (
            dict(criterion="taylor", data=[1], loss=lambda m, b: m(images(1)).sum() * float("nan")),
            "The loss is nan on number 0",
        ),
        (
            dict(criterion="taylor", data=[1], loss=lambda m, b: torch.ones(())),
            "not computed by the given network",
        ),
        (dict(criterion="taylor", data=[1], loss=lambda m, b: m(images(1))), "one number"),
    ],
)
def test_bad_data_and_losses(network, settings, words):
    with pytest.raises(ValueError, match=words):
        rarts_mm.prune(network, images(2), 0.5, **settings)


def test_of_searched_layers_the_memory_is_not_known(network):
    from rarts_mm.widths.flow.attached import attach

    groups, alphas = scored(network)
    attach(network, groups)
    measured = measure_derivatives(network, alphas, [lambda: network(images(2)).sum()])
    found = importance(network, "taylor", derivatives=lambda: measured)
    assert found.keys() == scores_of(network).keys()
    with pytest.raises(ValueError, match="memory that a channel's maps take"):
        importance(network, "fisher", derivatives=lambda: measured)
    with pytest.raises(ValueError, match="looks at the loss on data"):
        importance(network, "taylor")
