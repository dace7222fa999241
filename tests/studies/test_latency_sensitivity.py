"""The latency sweep: its points, its numbers against closed forms, its page, at a tiny size."""

import importlib
import itertools
import json
import shutil
import statistics
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from rarts_mm.cells.genotype import Genotype
from rarts_mm.cells.latency_table import LatencyTable
from tests.conftest import forget_runs

BENCHMARKS = Path(__file__).parents[2] / "studies"


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


@pytest.fixture
def few(digits, tmp_path):
    """130 of the digits for training: halves of 65."""
    folder = tmp_path / "digits"
    for split in ("train", "val", "test"):
        for digit in range(10):
            (folder / split / str(digit)).mkdir(parents=True)
            for path in sorted((digits / split / str(digit)).glob("*.png"))[:13]:
                shutil.copy(path, folder / split / str(digit))
    return folder


def test_the_points_are_those_of_table_2(module):
    points = module("latency_sensitivity").points(module("sensitivity.points").SWEEP)
    # The baseline stands in all four parts of the paper's table.
    assert len(points) == 1 + 4 * 2
    found = [(p.weight, p.rate, p.decay, p.batch) for p in points]
    base = (2e-3, 3e-4, 1e-3, 64)
    assert found[0] == base
    others = [(2e-2, 2e-4), (3e-3, 3e-5), (1e-4, 1e-2), (32, 16)]
    for place, values in enumerate(others):
        for value in values:
            assert (*base[:place], value, *base[place + 1 :]) in found


def test_the_mean_is_that_of_all_networks(module):
    """Two nodes and three operations: all choices can be listed."""
    numbers = [[100.0, 1.0, 2.5], [100.0, 4.0, 0.5], [100.0, 3.0, 7.0], [100.0, 0.2, 0.1]]
    numbers.append([100.0, 9.0, 5.0])
    table = LatencyTable(dict(x=numbers), dict(operations=["none", "a", "b"]), {}, ())
    sums = []
    for pair in itertools.combinations((2, 3, 4), 2):
        for chosen in itertools.product((1, 2), repeat=4):
            edges = (0, 1, *pair)
            sums.append(sum(numbers[e][o] for e, o in zip(edges, chosen, strict=True)))
    mean = module("latency_sensitivity").mean_latency(table)
    assert mean == pytest.approx(statistics.mean(sums))


def test_the_page_says_what_the_runs_say(module, tmp_path):
    """Made-up runs of two seeds: means, intervals and ratios by hand."""
    points, page = module("sensitivity.points"), tmp_path / "results.md"
    predicted = {64: (4.0, 6.0), 32: (5.0, 5.0), 16: (2.0, 4.0)}
    runs = [
        dict(
            task=dict(point=asdict(points.Point(batch=batch)), seed=seed),
            predicted=values[seed],
            measured=10 * values[seed],
            skip_share=0.25,
            steps=8,
        )
        for batch, values in predicted.items()
        for seed in range(2)
    ]
    measured = dict(device="cpu: Z80", threads=1, dtype="float32", torch="2", rarts_mm="0")
    table = LatencyTable({}, {}, measured, ())
    small = points.Small(size=12)
    module("sensitivity.page").write_page(
        page, runs, table, small, 3.5, 163.0, ["batch"], "the command"
    )
    text = page.read_text()
    # Student's t of one degree of freedom is 12.7062 at 97.5 %; the standard errors are 1 and 0.
    assert "| 64 | 5.00 ± 12.71 | 50.00 ± 127.06 | 1.00 | 1.00 | 25% |" in text
    assert "| 32 | 5.00 ± 0.00 | 50.00 ± 0.00 | 1.00 | 0.93 | 25% |" in text
    assert "| 16 | 3.00 ± 12.71 | 30.00 ± 127.06 | 0.60 | 0.76 | 25% |" in text
    assert (
        "**Batch size**: 0.60 to 1.00 times the baseline's latency; in the paper 0.76 to 1.00"
        in text
    )
    assert "    the command\n\nZ80, 1 thread" in text
    assert "multiplied by 3.5" in text
    assert "rates are multiplied by 163" in text
    assert (tmp_path / "results-latency.png").stat().st_size > 10_000


@pytest.mark.slow
def test_a_tiny_sweep(module, few, tmp_path, monkeypatch, capsys):
    command = module("latency_sensitivity")
    page = tmp_path / "docs" / "results.md"
    arguments = f"--data {few} --seeds 1 --only weight --channels 2 --layers 3 --size 8 --epochs 1"
    arguments += f" --repeats 2 --workers 1 --work-dir {tmp_path / 'work'} --out {page}"
    forget_runs()
    command.main([*arguments.split(), "--estimate"])
    assert "3 searches of 3 are left: about 0 minutes with 1 at a time" in capsys.readouterr().out
    assert not page.exists()
    # As a user runs it: torch's autograd cannot be forked after what other tests have done with it.
    program = (sys.executable, str(BENCHMARKS / "latency_sensitivity.py"))
    subprocess.run([*program, *arguments.split()], check=True, timeout=300)
    content = json.loads((tmp_path / "docs" / "results-latency.json").read_text())
    table = LatencyTable.read(tmp_path / "work" / "latencies.json")
    assert content["table"] == json.loads(json.dumps(table.to_dict()))
    assert content["rate_scale"] == 391 * 50 / 2
    assert content["scale"] == pytest.approx(21.7 / command.mean_latency(table))
    assert [run["task"]["point"]["weight"] for run in content["runs"]] == [2e-3, 2e-2, 2e-4]
    for run in content["runs"]:
        # 65 images in batches of 64.
        assert run["steps"] == 2
        genotype = Genotype.parse(run["genotype"])
        assert run["skip_share"] == genotype.skip_share
        assert run["predicted"] == pytest.approx(sum(table.predict(genotype).values()))
        assert run["measured"] > 0
        assert set(run["expected"]) == {"normal", "reduce"}
        search = (tmp_path / "work" / run["folder"] / "search.py").read_text()
        assert f"gamma={run['task']['point']['weight'] * content['scale']!r}" in search
    text = page.read_text()
    base = content["runs"][0]["predicted"]
    for run in content["runs"]:
        assert f"| {run['predicted']:.2f} | {run['measured']:.2f} |" in text
        assert f"| {run['predicted'] / base:.2f} |" in text
    assert (page.parent / "results-latency.png").stat().st_size > 10_000

    # The same command searches nothing again; other settings are another folder's.
    monkeypatch.setattr(command, "tell_time", lambda *args: None)
    monkeypatch.setattr(module("sensitivity.points"), "train", None)
    command.main(arguments.split())
    with pytest.raises(ValueError, match=r"differs in config\).*--work-dir"):
        command.main(arguments.replace("--size 8", "--size 9").split())


def test_searches_differ_in_what_their_point_says(module):
    points = module("sensitivity.points")
    task = points.Task(
        points.Point(2e-4, 3e-5, 1e-2, 16), 7, points.Small(size=12), "t.json", 3.0, 2.0
    )
    cfg = points.config_of(task)
    assert cfg.optim_wrapper.penalty == dict(
        type="LatencyPenalty", latencies="t.json", gamma=2e-4 * 3.0
    )
    alpha = cfg.optim_wrapper.alpha.optimizer
    assert (alpha.type, alpha.lr, alpha.weight_decay) == ("Adam", 6e-5, 1e-2)
    assert cfg.train_dataloader.batch_size == 16
    assert cfg.train_cfg.split.seed == cfg.randomness.seed == 7
    (resize,) = [t for t in cfg.train_dataloader.dataset.pipeline if t.type == "Resize"]
    assert resize.scale == (12, 12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0"], "--seeds 0: give at least 1"),
        (["--only", "width"], "invalid choice: 'width'"),
        (["--paper-ms", "-1"], "--paper-ms -1"),
        (["--paper-steps", "-1"], "--paper-steps -1"),
        (["--out", "page.txt"], "ends in .md"),
    ],
)
def test_bad_arguments(module, capsys, arguments, message):
    with pytest.raises(SystemExit):
        module("latency_sensitivity").parse_args(arguments)
    assert message in capsys.readouterr().err
