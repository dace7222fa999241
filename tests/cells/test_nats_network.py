"""Networks of the NATS-Bench topology space: sizes, operations, cells."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from rarts_mm.cells import NATSArchitecture, NATSNetwork, NATSSearchNetwork
from rarts_mm.cells.nats import NATS_OPERATIONS, build_nats_operation
from rarts_mm.cells.nats.network import NATSCell
from tests import tiny
from tests.cells.searches import small
from tests.cells.test_nats_architecture import ELEVENTH, ZEROTH

SKIPPING = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|none~0|nor_conv_1x1~1|none~2|"


@pytest.mark.parametrize(
    ("text", "params", "flops"),
    [(ZEROTH, 129_306, 15.64737), (ELEVENTH, 802_426, 113.95137), (SKIPPING, 101_306, 11.71521)],
    ids=["0", "11", "284"],
)
def test_sizes_are_those_of_the_benchmarks_records(text, params, flops):
    """Architectures 0, 11 and 284 with ten classes, params and FLOPs as NATS-tss-v1_0 has them."""
    network = NATSNetwork(text).eval()
    head = nn.Linear(64, 10)
    count = sum(p.numel() for module in (network, head) for p in module.parameters())
    assert count == params
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        (out,) = network(torch.zeros(1, 3, 32, 32))
    assert out.shape == (1, 64, 8, 8)
    # The record counts the classifier's biases as well.
    assert counter.get_total_flops() / 2 + 650 == pytest.approx(1e6 * flops, abs=6)


def test_operations_are_their_formulas():
    torch.manual_seed(0)
    x = torch.randn(3, 4, 5, 6, dtype=torch.float64)
    built = {n: build_nats_operation(n, 4, plain=True).double() for n in NATS_OPERATIONS}
    assert torch.equal(built["none"](x), torch.zeros_like(x))
    assert torch.equal(built["skip_connect"](x), x)
    ones = torch.ones(1, 1, 3, 3, dtype=torch.float64)
    pooled = F.conv2d(x.view(12, 1, 5, 6), ones, padding=1)
    counts = F.conv2d(torch.ones_like(x[:1, :1]), ones, padding=1)
    torch.testing.assert_close(built["avg_pool_3x3"](x), pooled.view_as(x) / counts)
    for name, kernel in (("nor_conv_1x1", 1), ("nor_conv_3x3", 3)):
        (weight,) = built[name].parameters()
        assert not list(built[name].buffers())
        y = F.conv2d(x.clamp(min=0), weight, padding=kernel // 2)
        y = (y - y.mean((0, 2, 3), keepdim=True)) / (
            y.var((0, 2, 3), unbiased=False, keepdim=True) + 1e-5
        ).sqrt()
        for mode in (True, False):
            torch.testing.assert_close(built[name].train(mode)(x), y)


def test_a_cell_of_an_architecture_is_its_string():
    cell = NATSCell(4, NATSArchitecture.parse(ELEVENTH)).double()
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64)
    conv = [m for m in cell.operations if isinstance(m, nn.Sequential)]
    pool = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    one = conv[0](x)
    two = conv[1](x) + pool(one)
    torch.testing.assert_close(cell(x), conv[2](one) + pool(two))


def test_a_cell_without_connections_gives_zeros():
    text = NATSArchitecture.from_number(0).text()
    cell = NATSCell(4, NATSArchitecture.parse(text))
    x = torch.randn(2, 4, 6, 6)
    assert torch.equal(cell(x), torch.zeros_like(x))


def test_the_candidates_norms_have_neither_weights_nor_statistics():
    network = NATSSearchNetwork(channels=4, repeats=1)
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            searched = ".edges." in name
            assert module.affine is module.track_running_stats is not searched, name
    assert network.out_channels == 16


@pytest.mark.parametrize("size", [(30, 32), (32, 33)])
def test_sizes_that_cannot_be_halved_are_errors(size):
    for network in (NATSSearchNetwork(4, 1), NATSNetwork(ZEROTH, 4, 1)):
        with pytest.raises(ValueError, match=r"cannot halve \d+ x \d+.*divisible by 4"):
            network(torch.zeros(2, 3, *size))


@pytest.mark.parametrize("kwargs", [dict(channels=0), dict(repeats=1.5)], ids=str)
def test_arguments_are_checked(kwargs):
    with pytest.raises(ValueError, match="must be a whole number >= 1"):
        NATSSearchNetwork(**kwargs)
    with pytest.raises(ValueError, match="must be a whole number >= 1"):
        NATSNetwork(ZEROTH, **kwargs)


def test_one_alpha_for_all_cells_and_both_networks():
    model = small("NATSSpace")
    ((name, alpha),) = model.alpha_parameters().items()
    assert (name, tuple(alpha.shape)) == ("cell", (6, 5))
    assert model.primary.backbone.alphas["cell"] is alpha
    scored = model.space.scored_weights(model.auxiliary)
    weights = [k for k, _ in model.auxiliary.named_parameters() if ".cells." in k]
    assert sorted(scored) == sorted(weights)


def test_another_network_is_an_error():
    with pytest.raises(ValueError, match="one NATSSearchNetwork, found 0"):
        tiny.search_model(space=dict(type="NATSSpace"))
