"""The latency table: what is measured where, its sums, its file, what it predicts."""

import copy
import json
import time
from functools import partial

import pytest
import torch
from torch import nn

from rarts_mm.cells import OPERATIONS, DARTSSearchNetwork
from rarts_mm.cells.genotype import GENOTYPES
from rarts_mm.cells.latency_table import LatencyTable, measure_table
from rarts_mm.cells.places import Place, Places, find_places, identity_of

# Of a cell's 14 edges, in order: the node that each enters is 0 to 3, what it leaves is 0 to 4.
SOURCES = [0, 1, 0, 1, 2, 0, 1, 2, 3, 0, 1, 2, 3, 4]


@pytest.fixture(scope="module")
def table():
    """Of four cells, two of which reduce, at odd sizes."""
    return measure_table(
        DARTSSearchNetwork(channels=4, layers=4), (9, 7), batch=2, repeats=3, warmup=1
    )


def test_shapes_strides_and_how_often_they_occur(table):
    # Normal, reduce, reduce, normal; 8 edges of a cell leave its inputs, 6 its nodes.
    assert {(s.input, s.stride): s.places for s in table.shapes} == {
        ((4, 9, 7), 1): dict(normal=14),
        ((8, 9, 7), 2): dict(reduce=8),
        ((8, 5, 4), 1): dict(reduce=6),
        ((16, 5, 4), 2): dict(reduce=8),
        # The second reduction's nodes and the last cell: measured once.
        ((16, 3, 2), 1): dict(reduce=6, normal=14),
    }
    for shape in table.shapes:
        assert list(shape.operations) == list(OPERATIONS)
        for latency in shape.operations.values():
            assert 0 < latency.lower <= latency.median <= latency.upper
            assert latency.repeats == 3


def test_entries_are_sums_over_the_cells_of_a_kind(table):
    ms = {
        (s.input, s.stride): [s.operations[name].median for name in OPERATIONS]
        for s in table.shapes
    }
    both = [((4, 9, 7), 1), ((16, 3, 2), 1)]
    for edge, source in enumerate(SOURCES):
        reduce = [((8, 9, 7), 2), ((16, 5, 4), 2)]
        if source >= 2:
            reduce = [((8, 5, 4), 1), ((16, 3, 2), 1)]
        for kind, places in (("normal", both), ("reduce", reduce)):
            wanted = [sum(column) for column in zip(*(ms[p] for p in places), strict=True)]
            assert table.latencies[kind][edge] == pytest.approx(wanted)


def test_the_record_says_of_what_and_how(table):
    assert {k: v for k, v in table.network.items() if k != "digest"} == dict(
        type="DARTSSearchNetwork",
        in_channels=3,
        channels=4,
        layers=4,
        operations=list(OPERATIONS),
        edges=dict(normal=14, reduce=14),
        input_size=[9, 7],
    )
    measured = table.measured
    assert (measured["batch_size"], measured["repeats"], measured["warmup"]) == (2, 3, 1)
    assert measured["device"].startswith("cpu: ")
    assert measured["dtype"] == "float32"
    assert measured["threads"] == torch.get_num_threads()
    assert measured["torch"] == torch.__version__
    assert measured["rarts_mm"]


def test_the_file_gives_the_table_back(table, tmp_path):
    path = tmp_path / "new" / "table.json"
    table.write(path)
    assert LatencyTable.read(path) == table
    content = json.loads(path.read_text())
    del content["measured"]["threads"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"table.json is no latency table.*threads"):
        LatencyTable.read(path)
    del content["shapes"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"table.json is no latency table.*shapes"):
        LatencyTable.read(path)
    path.write_text("no JSON")
    with pytest.raises(ValueError, match="is no latency table"):
        LatencyTable.read(path)
    with pytest.raises(ValueError, match=r"nowhere.json' does not exist"):
        LatencyTable.read(tmp_path / "nowhere.json")


def test_the_digest_tells_networks_apart():
    network = DARTSSearchNetwork(channels=4, layers=4)
    same = identity_of(DARTSSearchNetwork(channels=4, layers=4), (8, 8))
    assert identity_of(network, (8, 8)) == same
    for other, size in (
        (network, (8, 9)),
        (DARTSSearchNetwork(channels=5, layers=4), (8, 8)),
        # As many cells of each kind, in another order.
        (DARTSSearchNetwork(channels=4, layers=5), (8, 8)),
    ):
        assert identity_of(other, size)["digest"] != same["digest"]


def test_measuring_leaves_the_network_and_the_generator_alone():
    network = DARTSSearchNetwork(channels=4, layers=3)
    network.cells[1].eval()
    modes = {name: m.training for name, m in network.named_modules()}
    before, drawn = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    identity_of(network, (8, 8))
    assert torch.equal(torch.get_rng_state(), drawn)
    assert {name: m.training for name, m in network.named_modules()} == modes
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert not any(m._forward_pre_hooks for m in network.modules())


class Sleep(nn.Module):
    """Takes a while."""

    def __init__(self, ms):
        super().__init__()
        self.ms = ms

    def forward(self, x):
        time.sleep(self.ms / 1000)
        return x


class Sleepy(nn.Module):
    """A search network of another space: two cells in a row, of one edge each."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 3, 1)
        self.cells = nn.ModuleList([nn.Identity(), nn.MaxPool2d(2)])

    def forward(self, x):
        for cell in self.cells:
            x = cell(x if x.shape[1] == 3 else self.stem(x))
        return x


@find_places.register
def _(network: Sleepy) -> Places:
    ms = dict(short=0.1, long=2.0)
    return Places(
        tuple(ms),
        lambda name, channels, stride: Sleep(channels * stride * ms[name]),
        2,
        tuple(Place("only", 0, 3, 1 + i, cell) for i, cell in enumerate(network.cells)),
    )


def test_any_network_that_says_its_places_and_times_are_of_one_execution():
    rounds = []
    found = measure_table(
        Sleepy(), (4, 6), repeats=3, progress=lambda *done: rounds.append(done), warmup=1
    )
    assert [(s.input, s.stride, s.places) for s in found.shapes] == [
        ((3, 4, 6), 1, dict(only=1)),
        ((3, 4, 6), 2, dict(only=1)),
    ]
    # Three channels: 0.3 and 6 ms at stride 1, twice that at stride 2; sleep is never shorter.
    short, long = found.latencies["only"][0]
    assert 0.9 <= short < 9
    assert 18 <= long < 60
    assert rounds == [(i, 8) for i in range(1, 9)]


def test_predicted_latency_is_the_sum_of_the_chosen_entries():
    generator = torch.Generator().manual_seed(0)
    numbers = {k: torch.rand(14, 8, generator=generator).tolist() for k in ("normal", "reduce")}
    table = LatencyTable(numbers, dict(type="X", operations=list(OPERATIONS)), {}, ())
    skip, sep3, dil3, pool = 3, 4, 6, 1
    # DARTS_V2: (edge, operation); node i's edges begin at 0, 2, 5, 9.
    normal = [(0, sep3), (1, sep3), (2, sep3), (3, sep3), (6, sep3), (5, skip)]
    normal += [(9, skip), (11, dil3)]
    reduce = [(0, pool), (1, pool), (4, skip), (3, pool), (5, pool), (7, skip)]
    reduce += [(11, skip), (10, pool)]
    found = table.predict(GENOTYPES["DARTS_V2"])
    for kind, chosen in (("normal", normal), ("reduce", reduce)):
        assert found[kind] == pytest.approx(sum(numbers[kind][e][o] for e, o in chosen), rel=1e-12)
    other = LatencyTable(dict(only=[[1.0]]), dict(type="X", operations=["sep_conv_3x3"]), {}, ())
    with pytest.raises(ValueError, match="of a X has no sep_conv_3x3 on edge 0 of a normal cell"):
        other.predict(GENOTYPES["DARTS_V2"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (partial(measure_table, nn.Conv2d(3, 3, 1), (8, 8)), "Conv2d is no search network"),
        (partial(measure_table, Sleepy(), (0, 8)), "size of 0 x 8"),
        (partial(measure_table, Sleepy(), (8, 8), batch=0), "batch >= 1, got 0"),
        (partial(measure_table, Sleepy(), (8, 8), repeats=0), "repeats >= 1, got 0"),
        (partial(measure_table, Sleepy(), (8, 1)), "does not take images of 8 x 1"),
    ],
)
def test_what_cannot_be_measured(call, message):
    with pytest.raises(ValueError, match=message):
        call()
