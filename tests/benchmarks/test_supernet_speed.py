"""The benchmark of the search networks: it compares equal numbers, and reports what it measured."""

import importlib
import json
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("supernet_speed")


@pytest.mark.slow
@pytest.mark.parametrize("network", ["darts", "nats"])
def test_measurement(benchmark, network, tmp_path, capsys):
    out = tmp_path / "result.json"
    options = dict(network=network, channels=4, batch=4, size=8, repeats=2, json=out)
    arguments = [str(word) for k, v in options.items() for word in (f"--{k}", v)]
    results = benchmark.main(arguments)
    assert json.loads(out.read_text()) == json.loads(json.dumps(results))
    assert 0 < results["difference"] < 0.01
    assert results["settings"]["threads"] == torch.get_num_threads()
    for kinds in results["seconds"].values():
        for values in kinds.values():
            assert 0 < values["lower"] <= values["median"] <= values["upper"]
    kept = results["kept"]
    # The norms' outputs are not kept for the products with their weights.
    assert kept["search network"] < 0.85 * kept["literal"]
    assert "of literal" in " ".join(capsys.readouterr().out.split())


def test_what_a_pass_keeps(benchmark):
    """Of exp its output is kept, of a product both factors; a parameter is no activation."""
    weight = torch.nn.Parameter(torch.ones(10, 10))
    x = torch.ones(10, 10)
    assert benchmark._kept(lambda: (weight * x).exp()) == 2 * 400
    assert benchmark._kept(lambda: weight * x[:5, :5].sum()) == 4


def test_bad_numbers_are_errors(benchmark, capsys):
    with pytest.raises(SystemExit):
        benchmark.main(["--batch", "0"])
    assert "--batch 0: give at least 1" in capsys.readouterr().err
