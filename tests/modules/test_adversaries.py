"""Networks made to be cut wrongly without anybody noticing."""

import copy
from collections import UserDict, namedtuple
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import rarts_mm
from rarts_mm.widths.flow import FlowError
from rarts_mm.widths.flow.uneven import make_uneven


@dataclass
class Out:
    y: Tensor


Pair = namedtuple("Pair", "a b")


class Network(nn.Module):
    """Three linear layers, and what a case makes of them."""

    def __init__(self, case=None, **more: nn.Module) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(12, 20), nn.Linear(20, 16), nn.Linear(16, 8)
        self.case = case
        for name, module in more.items():
            setattr(self, name, module)
        make_uneven(self.eval())

    def features(self, x: Tensor) -> Tensor:
        return self.c(F.relu(self.b(F.relu(self.a(x)))))

    def forward(self, x):
        return self.features(x) if self.case is None else self.case(self, x)


X = torch.randn(4, 12, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda y: Out(y),
        lambda y: SimpleNamespace(y=y),
        lambda y: UserDict(y=y),
        lambda y: [{"y": (y,)}],
        lambda y: Pair(y, None),
        lambda y: iter([y]),
    ],
)
def test_outputs_stay_whole_whatever_they_are_wrapped_in(wrap):
    network = Network(lambda self, x: wrap(self.features(x)))
    smaller = rarts_mm.prune(network, X, ratio=0.4)
    assert smaller.model.c.out_features == 8
    assert smaller.model.a.out_features < 20


@pytest.mark.parametrize(
    "second", [lambda y: y > 0, lambda y: (100 * y).long(), lambda y: y.argmax(1)]
)
def test_outputs_that_are_no_numbers_with_a_point_stay_whole_too(second):
    network = Network(lambda self, x: (self.features(x), second(self.a(x))))
    smaller = rarts_mm.prune(network, X, ratio=0.4)
    assert smaller.model.a.out_features == 20
    assert smaller.model.b.out_features < 16


@pytest.mark.parametrize("made", [lambda y: y > 0, lambda y: y.tolist(), lambda y: None])
def test_where_nothing_can_be_compared_nothing_is_cut(made):
    network = Network(lambda self, x: made(self.features(x)))
    with pytest.raises(FlowError, match="puts out no floating point tensor"):
        rarts_mm.prune(network, X, ratio=0.4)


@pytest.mark.parametrize("ids", [torch.arange(4), torch.zeros(5, dtype=torch.long)])
def test_a_table_keeps_the_rows_that_the_example_has_not_read(ids):
    def run(self, x):
        return self.c(F.relu(self.b(F.relu(self.table(x)))))

    network = Network(run, table=nn.Embedding(64, 20))
    smaller = rarts_mm.prune(network, ids, ratio=0.4, criterion="random")
    assert smaller.model.table.weight.shape[0] == smaller.model.table.num_embeddings == 64
    assert smaller.model.table.weight.shape[1] == smaller.model.table.embedding_dim < 20
    # Other rows, by hand: the removed dimensions are zero where they are read.
    masked = copy.deepcopy(network)
    with torch.no_grad():
        for group, kept in smaller.kept.items():
            gone = [i for i in range(smaller.groups.sizes[group]) if i not in kept.tolist()]
            reader = {"table": masked.b, "b": masked.c}[group]
            reader.weight[:, gone] = 0
        every = torch.arange(64)
        torch.testing.assert_close(smaller.model(every), masked(every))


def test_positions_that_the_example_does_not_reach_stay():
    def run(self, x):
        return self.c(F.relu(self.b(self.a(x) + self.positions[: x.shape[1]])))

    network = Network(run)
    network.positions = nn.Parameter(torch.randn(10, 20))
    smaller = rarts_mm.prune(network, torch.randn(2, 3, 12), ratio=0.4)
    assert smaller.model.positions.shape[0] == 10
    smaller.model(torch.randn(2, 10, 12))


@pytest.mark.parametrize(
    "move",
    [
        lambda x: x.roll(1, 1),
        lambda x: x[:, ::2].repeat(1, 2),
        lambda x: x.unfold(1, 2, 2).mean(2).repeat(1, 2),
        lambda x: torch.tril(x),
        lambda x: x * x[:, 3:4],
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_where_the_place_of_a_channel_counts_it_stays(move, seed):
    network = Network(lambda self, x: self.c(move(F.relu(self.b(self.a(x))))))
    smaller = rarts_mm.prune(network, X, ratio=0.5, criterion="random", seed=seed)
    assert smaller.model.b.out_features == 16
    assert smaller.model.a.out_features < 20


@pytest.mark.parametrize("seed", range(4))
def test_flipped_channels_go_too(seed):
    network = Network(lambda self, x: self.c(F.relu(self.b(self.a(x))).flip(1)))
    smaller = rarts_mm.prune(network, X, ratio=0.5, criterion="random", seed=seed)
    assert smaller.model.b.out_features < 16


class Scale(nn.Module):
    """Numbers of a module that are widths by chance, and one that it needs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16))
        self.num_classes, self.anchor_sizes, self.shape = 16, (16, 32), (1, 16)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight.view(self.shape)


def test_code_that_asks_for_even_widths_is_found_at_any_ratio():
    """DaViT of MMPretrain pads its channels as if they were positions."""

    def forward(network, x):
        x = F.relu(network.a(x))
        x = F.pad(x, (0, 1)) if x.shape[-1] % 2 else x
        return network.c(F.relu(network.b(x)))

    network = Network(forward)
    x = torch.randn(3, 12, dtype=torch.float64)
    found = rarts_mm.groups(network, x)
    assert list(found.groups) == ["b"]
    assert any("does not run" in f.reason for f in found.frozen if f.name == "a")
    for ratio in (0.3, 0.35, 0.4, 0.45):
        rarts_mm.prune(network, x, ratio)


def test_numbers_change_only_where_a_trial_asks_for_it():
    network = Network(
        lambda self, x: self.c(self.scale(F.relu(self.b(F.relu(self.a(x)))))), scale=Scale()
    )
    smaller = rarts_mm.prune(network, X, ratio=0.4).model
    assert smaller.b.out_features < 16
    assert smaller.scale.shape == (1, smaller.b.out_features)
    assert smaller.scale.num_classes == 16
    assert smaller.scale.anchor_sizes == (16, 32)


def test_a_network_that_changes_its_buffers():
    class Counting(Network):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("number", torch.tensor(1.0))

        def forward(self, x):
            self.number += 1
            return self.features(x) / self.number

    network = Counting()
    smaller = rarts_mm.prune(network, X, ratio=0.4)
    assert network.number == 1
    assert smaller.error < 1e-12


def test_excluded_layers_stay_as_they_are():
    class Streams(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.head = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 4, 1)
            self.block = nn.Sequential(nn.Conv2d(16, 24, 1), nn.ReLU(), nn.Conv2d(24, 16, 1))

        def forward(self, x):
            x = self.stem(x)
            return self.head(x + self.block(x))

    network = make_uneven(Streams())
    images = torch.randn(1, 3, 4, 4)
    smaller = rarts_mm.prune(network, images, ratio=0.5, exclude="head").model
    assert smaller.stem.out_channels == 16
    assert smaller.block[0].out_channels == 12
    with pytest.raises(ValueError, match="nothing to cut"):
        rarts_mm.prune(network, images, ratio=0.5, exclude="block.2")
    smaller = rarts_mm.prune(network, images, ratio=0.5, include="block.2").model
    assert (smaller.stem.out_channels, smaller.block[0].out_channels) == (8, 24)


@pytest.mark.parametrize("nested", [False, True])
def test_named_tuples_as_inputs(nested):
    both = Pair(X, X)
    network = Network(lambda self, x: self.features(x.a + x.b))
    forward = None if nested else lambda model, pair: model(pair)
    inputs = (both,) if nested else both
    assert rarts_mm.prune(network, inputs, ratio=0.4, forward=forward).error < 1e-12


def test_what_the_example_does_not_run_is_said():
    network = Network(lambda self, x: self.features(x), auxiliary=nn.Linear(20, 3))
    text = str(rarts_mm.prune(network, X, ratio=0.4))
    assert "2 parameters were not run by the example (auxiliary.weight, ...)" in text


def test_only_modules_are_cut():
    with pytest.raises(ValueError, match=r"must be a torch\.nn\.Module, got a function"):
        rarts_mm.prune(lambda x: x, X, ratio=0.4)
