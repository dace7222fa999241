"""The latency benchmarks' command lines at tiny size, and what their parts compute."""

import importlib
import json
from pathlib import Path

import pytest
import torch

from rarts_mm.analysis import count_flops

pytestmark = pytest.mark.slow
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SIZE = 64


@pytest.fixture(scope="module")
def module():
    """Import one of the benchmark's files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module


@pytest.fixture(autouse=True)
def _same_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def network(module):
    return module("latency.pruned_networks").build_network("mobilenet-v2")


@pytest.fixture(scope="module")
def result(module, tmp_path_factory):
    out = tmp_path_factory.mktemp("latency") / "result"
    command = [
        "--models",
        "mobilenet-v2",
        "--size",
        SIZE,
        "--ratios",
        0,
        0.5,
        "--batch",
        1,
        2,
        "--round-to",
        1,
        8,
    ]
    command += ["--ways", "plain", "folded channels-last", "--repeats", 2, "--more-at-one", 1]
    command += ["--threads", 1, "--clock", "processor", "--profile", 0.5, "--out", out]
    module("pruned_latency").main([str(part) for part in command])
    return out


@pytest.mark.slow
def test_rows_hold_what_was_measured(result, network, module):
    found = json.loads(Path(f"{result}.json").read_text())
    rows = found["latency"]
    # Control, any width, multiples of 8; for two batches and two ways.
    assert len(rows) == 3 * 2 * 2
    assert found["environment"]["threads"] == 1
    pruned, widths = module("latency.pruned_networks").prune(network, 0.5, 8, seed=0)
    whole, part = (count_flops(n, (SIZE, SIZE)).total for n in (network, pruned))
    for row in rows:
        assert row["milliseconds"] > 0
        ratios = row["ratios"]["processor"]
        assert ratios["lower"] <= row["latency_ratio"] == ratios["median"] <= ratios["upper"]
        if row["ratio"] == 0:
            assert (row["flop_ratio"], row["arrived"], row["round_to"]) == (1, None, 1)
            continue
        assert row["arrived"] == pytest.approx((1 - row["latency_ratio"]) / (1 - row["flop_ratio"]))
        if row["round_to"] == 8:
            assert row["flop_ratio"] == part / whole
            assert row["widths"] == widths


@pytest.mark.slow
def test_kinds_say_what_did_not_arrive(result):
    found = json.loads(Path(f"{result}.json").read_text())
    kinds = found["kinds"]
    for row in kinds:
        assert row["excess"] == pytest.approx(row["after"] - row["flop_ratio"] * row["before"])
    products = [row for row in kinds if row["kind"] == "products"]
    assert len(products) == 2 * 2 * 2
    assert all(row["before"] > 0 for row in products)
    # Folded batch norms are gone, and were there before.
    norms = {row["way"] for row in kinds if row["kind"] == "normalisation"}
    assert norms == {"plain"}


def test_table_and_picture_are_written(result):
    text = Path(f"{result}.md").read_text()
    assert "| mobilenet-v2 | 2 | folded channels-last | 50% | multiples of 8 |" in text
    assert "Time by kind of operator, 50% of the scores removed" in text
    assert Path(f"{result}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("round_to", [1, 8])
def test_pruned_widths_keep_to_the_budget(module, network, round_to):
    pruned, widths = module("latency.pruned_networks").prune(network, 0.4, round_to, seed=1)
    whole = module("latency.pruned_networks").prune(network, 0.0, 1, seed=1)[1]
    budget = 0.6 * sum(whole.values())
    assert budget - round_to < sum(widths.values()) <= budget
    assert all(w % round_to == 0 or w == whole[name] for name, w in widths.items())
    # Random, not the same share everywhere.
    assert len({round(w / whole[name], 2) for name, w in widths.items()}) > 3
    assert pruned(torch.randn(1, 3, SIZE, SIZE), mode="tensor").shape == (1, 1000)


def test_ways_change_how_and_not_what(module, network):
    networks = module("latency.pruned_networks")
    assert networks.ways_of(network) == networks.WAYS
    assert networks.ways_of(torch.nn.LayerNorm(3)) == ("plain",)
    images = torch.randn(2, 3, SIZE, SIZE)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    with torch.inference_mode():
        results = {way: networks.prepare(network, way, images)() for way in networks.WAYS}
    for found in results.values():
        torch.testing.assert_close(found, results["plain"], rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        ("aten::mkldnn_convolution", "products"),
        ("aten::addmm", "products"),
        ("aten::bmm", "products"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "fused attention"),
        ("aten::native_layer_norm", "normalisation"),
        ("aten::native_batch_norm", "normalisation"),
        ("aten::_softmax", "softmax"),
        ("aten::max_pool2d_with_indices", "pooling"),
        ("aten::gelu", "activations, elementwise"),
        ("aten::add_", "activations, elementwise"),
        ("aten::clamp_min_", "activations, elementwise"),
        ("aten::addcmul", "rest"),
        ("aten::copy_", "memory, layout"),
        ("aten::im2col", "memory, layout"),
        ("aten::t", "memory, layout"),
        ("cudaLaunchKernel", "rest"),
    ],
)
def test_operators_have_a_kind(module, operator, kind):
    assert module("latency.time_by_kind").kind_of(operator) == kind


def test_a_profile_finds_the_operators_of_a_call(module):
    a = torch.randn(200, 200)
    found = module("latency.time_by_kind").time_by_kind(
        {"mm": lambda: a @ a, "gelu": lambda: a.exp()}, 2
    )
    assert found["mm"]["products"] > 0
    assert found["gelu"]["products"] == 0 < found["gelu"]["rest"]


@pytest.mark.parametrize("training", [False, True])
def test_window_attention(module, tmp_path, training, capsys):
    out = tmp_path / "layers.json"
    command = ["--batch", "1", "--stages", "4", "--head-dims", "32", "19", "--repeats", "1"]
    command += ["--threads", "1", "--json", str(out)] + ["--training"] * training
    module("window_attention").main(command)
    found = json.loads(out.read_text())
    plain = ["library", "scored", "32", "19"]
    fused = ["library", "scored", "32", "32, fused", "19", "19, fused"]
    assert [list(row["ratios"]) for row in found["layers"]] == 2 * [plain if training else fused]
    assert all(row["ratios"]["library"]["median"] == 1 for row in found["layers"])
    assert "Window attention by the library's" in capsys.readouterr().out


def test_layers_of_the_window_benchmark_agree(module):
    window = module("window_attention")
    layers = window.layers_of(3, [32], training=False)
    x, mask = torch.randn(8, 49, 96), -100.0 * torch.randint(0, 2, (4, 49, 49))
    with torch.inference_mode():
        results = {name: layer(x, mask) for name, layer in layers.items()}
    for found in results.values():
        torch.testing.assert_close(found, results["library"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("pruned_latency", ["--ratios", "1"], "--ratios 1: give shares from 0 to below 1"),
        ("pruned_latency", ["--batch", "0"], "--batch 0"),
        ("pruned_latency", ["--repeats", "0"], "--repeats 0"),
        ("pruned_latency", ["--warmup", "-1"], "--warmup -1: give at least 0"),
        ("pruned_latency", ["--round-to", "0"], "--round-to 0"),
        ("pruned_latency", ["--profile", "0.3"], "--profile 0.3: give one of --ratios 0 0.2"),
        ("pruned_latency", ["--models", "swin-b"], "invalid choice: 'swin-b'"),
        ("window_attention", ["--head-dims", "33"], "--head-dims 33: give numbers from 1 to 32"),
        ("window_attention", ["--batch", "0"], "--batch 0"),
        ("window_attention", ["--threads", "0"], "--threads 0"),
    ],
)
def test_bad_arguments_are_refused(module, capsys, script, arguments, message):
    with pytest.raises(SystemExit) as end:
        module(script).main(arguments)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_a_size_that_the_network_refuses_is_named(module):
    with pytest.raises(ValueError, match="image of 8 x 8 pixels"):
        module("pruned_latency").main(["--models", "swin-t", "--size", "8", "--batch", "1"])
