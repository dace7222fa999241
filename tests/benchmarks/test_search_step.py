"""The benchmark's command line: counts against closed forms, memory against known sizes."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from rarts_mm.registry import ALTERNATIONS

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
BATCH, SIZE = 2, 64


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict:
    out = tmp_path_factory.mktemp("benchmark") / "result.json"
    # A process of its own: the benchmark sets threads, seeds and loggers.
    command = [sys.executable, BENCHMARKS / "search_step.py", "--json", out, "--threads", 1]
    command += ["--batch", BATCH, "--size", SIZE, "--repeats", 2, "--warmup", 1]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in ALTERNATIONS.module_dict)
    return json.loads(out.read_text())


@pytest.fixture
def module(monkeypatch):
    """Import one of the benchmark's files."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


def closed_form() -> dict[str, int]:
    """Multiply-adds of the benchmark's Swin: width 48, blocks 2, 2, 4, 2, MLPs of 4, 100 classes."""
    window = SIZE // 32
    tokens = BATCH * (SIZE // 4) ** 2
    width = 48
    stem = tokens * width * (3 * 4 * 4)
    # Below the first block's qkv, whose outputs carry the first alpha, nobody asks for a gradient.
    first = tokens * width * 3 * width
    # Nor of its keys and values: its alpha multiplies the queries and what the attention gives.
    first += 2 * tokens * window**2 * width
    layers, attention = stem, 0
    for stage, blocks in enumerate((2, 2, 4, 2)):
        if stage:
            tokens //= 4
            layers += tokens * 4 * width * 2 * width
            width *= 2
        # qkv, projection and the MLP's two layers; q k^T and its product with v.
        layers += blocks * tokens * width * width * (3 + 1 + 4 + 4)
        attention += blocks * 2 * tokens * window**2 * width
    layers += BATCH * width * 100
    return dict(stem=stem, first=first, layers=layers, attention=attention)


@pytest.mark.slow
def test_passes_multiply_what_the_arithmetic_says(results):
    n = closed_form()
    forward = n["layers"] + n["attention"]
    # An attention product has two factors that depend on the weights below.
    of_weights = dict(
        forward=forward,
        backward=2 * n["layers"] - n["stem"] + 2 * n["attention"],
        weight_gradients=n["layers"],
    )
    of_alpha = dict(
        forward=forward,
        backward=n["layers"] - n["stem"] - n["first"] + 2 * n["attention"],
        weight_gradients=0,
    )
    both, w, a = ["weights", "alpha"], ["weights"], ["alpha"]
    assert results["searches"]["Joint"]["passes"] == 2 * [
        dict(network="auxiliary", gradients_of=both, **of_weights)
    ]
    assert results["searches"]["RARTS"]["passes"] == [
        dict(network="auxiliary", gradients_of=w, **of_weights),
        dict(network="primary", gradients_of=w, **of_weights),
        dict(network="auxiliary", gradients_of=a, **of_alpha),
        dict(network="primary", gradients_of=a, **of_alpha),
    ]
    joint = 2 * (3 * n["layers"] - n["stem"] + 3 * n["attention"])
    rarts = joint + 2 * (2 * n["layers"] - n["stem"] - n["first"] + 3 * n["attention"])
    assert results["searches"]["Joint"]["multiply_adds"] == joint
    assert results["searches"]["RARTS"]["multiply_adds"] == rarts
    assert results["searches"]["RARTS"]["multiply_adds_ratio"] == rarts / joint
    # 10 F / 6 F, but for the ends of the network.
    assert rarts / joint == pytest.approx(10 / 6, rel=0.01)


@pytest.mark.slow
def test_all_alternations_are_timed_in_every_round(results):
    assert set(results["searches"]) == set(ALTERNATIONS.module_dict) | {"DARTS2-exact"}
    for row in results["searches"].values():
        assert set(row["seconds"]) == {"wall", "processor"}
        for time in row["seconds"].values():
            assert 0 < time["lower"] <= time["median"] <= time["upper"]
    for ratio in results["searches"]["Joint"]["ratio"].values():
        assert ratio == dict(lower=1.0, median=1.0, upper=1.0)
    assert results["setting"]["batch"] == BATCH
    assert results["environment"]["threads"] == 1


def test_hours_of_the_published_search(module, capsys):
    """391 steps in each of 50 epochs, at the published batch size only."""
    command, settings = module("search_step"), module("steps.settings").SETTINGS
    quarter = dict(lower=0.25, median=0.25, upper=0.25)
    one = dict(lower=1.0, median=1.0, upper=1.0)
    results = dict(
        environment=dict(device="d", threads=1, torch="t", date="today", dtype="float32"),
        setting=dict(
            model="darts-network",
            parameters=1_930_618,
            batch=64,
            size=32,
            optimizer="SGD",
            amp=None,
            steps=settings["darts-network"].steps,
        ),
        searches=dict(Joint=dict(seconds=dict(wall=quarter), ratio=dict(wall=one))),
    )
    command.show(results)
    out = capsys.readouterr().out
    # 19,550 steps of a quarter of a second.
    assert "1.36" in out
    assert "50 epochs of 391 steps" in " ".join(out.split())
    results["setting"]["steps"] = None
    command.show(results)
    assert "hours" not in capsys.readouterr().out


@pytest.mark.slow
def test_memory_counts_the_second_network_with_its_optimiser(results):
    memory = {name: row["memory"] for name, row in results["searches"].items()}
    # fp32 weights and AdamW's two moments; buffers and counters of steps are small beside them.
    second = 3 * 4 * results["setting"]["parameters"]
    assert memory["RARTS"]["standing"] - memory["Joint"]["standing"] == pytest.approx(
        second, rel=0.01
    )
    for row in memory.values():
        # A step holds at least one network's gradients.
        assert row["step"] > 4 * results["setting"]["parameters"]
        assert row["total"] == row["standing"] + row["step"]


def test_peak_memory_is_the_largest_sum_of_live_tensors(module):
    def step():
        a = torch.ones(1_000_000)
        b = torch.ones(2_000_000)
        del a
        c = torch.ones(500_000)
        return b.sum() + c.sum()

    model = torch.nn.Linear(7, 3)
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)
    model(torch.ones(7)).sum().backward()
    optimizer.step()

    search = Mock(side_effect=step, model=model)
    search.optim_wrapper = {"auxiliary": Mock(optimizer=optimizer)}
    peak = module("steps.peak_memory").peak_memory(search)
    # The weights and their momentum.
    assert peak.standing == 2 * 4 * (7 * 3 + 3)
    assert peak.step == 4 * 3_000_000


def test_counted_products_are_those_that_torch_counts(module):
    """Convolutions with strides and paddings as well."""
    from torch.utils.flop_counter import FlopCounterMode

    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=2, padding=1),
        torch.nn.Conv2d(8, 12, 3),
        torch.nn.Flatten(),
        torch.nn.Linear(12 * 9, 5),
    )
    alpha = torch.nn.Parameter(torch.randn(5))
    model = torch.nn.Module()
    model.auxiliary, model.primary, model.alpha_parameters = network, None, lambda: {"": alpha}
    images = torch.randn(2, 3, 10, 10)

    def step():
        (network(images) * alpha).sum().backward()

    (counted,) = module("steps.products").count_passes(model, step)
    with FlopCounterMode(display=False) as by_torch:
        step()
    assert 2 * (counted.forward + counted.backward) == by_torch.get_total_flops()
    # Outputs x products for each: 8 maps of 5 x 5, 12 of 3 x 3, 5 numbers; 2 images.
    first, second, linear = 2 * 8 * 25 * 27, 2 * 12 * 9 * 72, 2 * 5 * 108
    assert counted.forward == first + second + linear
    assert counted.weight_gradients == first + second + linear
    # Nobody asks for the gradient of the images.
    assert counted.backward == first + 2 * second + 2 * linear
    network.requires_grad_(False)
    (counted,) = module("steps.products").count_passes(model, step)
    assert (counted.gradients_of, counted.backward) == (("alpha",), 0)


def test_products_of_grouped_and_transposed_convolutions(module):
    """Each gradient takes as many products as the convolution itself."""
    network = torch.nn.Sequential(
        torch.nn.Conv2d(4, 8, 1, bias=False),
        torch.nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8),
        torch.nn.ConvTranspose2d(8, 6, 2, stride=2, groups=2),
    )
    model = torch.nn.Module()
    model.auxiliary, model.primary, model.alpha_parameters = network, None, dict
    images = torch.randn(2, 4, 5, 7)
    (counted,) = module("steps.products").count_passes(
        model, lambda: network(images).sum().backward()
    )
    pixels = 2 * 5 * 7
    pointwise, depthwise, transposed = pixels * 4 * 8, pixels * 8 * 9, pixels * 8 * 3 * 4
    assert counted.weight_gradients == pointwise + depthwise + transposed
    assert counted.backward == pointwise + 2 * depthwise + 2 * transposed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "100"], "a multiple of 32 from 64 on"),
        (["--repeats", "0"], "--repeats 0"),
        (["--warmup", "0"], "--warmup 0"),
        (["--search", "SARTS"], "invalid choice: 'SARTS'"),
        pytest.param(
            ["--device", "cuda"],
            "no GPU",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_bad_arguments_are_refused(module, capsys, arguments, message):
    with pytest.raises(SystemExit) as end:
        module("search_step").main(arguments)
    assert end.value.code == 2
    assert message in capsys.readouterr().err
