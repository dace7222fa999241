"""The hook that logs the expected latency of a topology search."""

import pytest
import torch

from rarts_mm.cells.latency_table import measure_table
from tests import tiny


def run(work_dir, hook, penalty=None, epochs=2):
    backbone = dict(type="rarts_mm.DARTSSearchNetwork", channels=2, layers=3)
    kind = tiny.architecture(head=dict(in_channels=32))
    kind["backbone"] = backbone
    runner = tiny.runner(
        work_dir,
        epochs=epochs,
        data=tiny.loader(number=8, batch_size=2),
        model=dict(
            type="rarts_mm.SearchModel", architecture=kind, space=dict(type="CellSpace"), networks=1
        ),
        optim_wrapper=dict(
            type="rarts_mm.RARTSOptimWrapper",
            constructor="rarts_mm.RARTSOptimWrapperConstructor",
            weights=tiny.weights_config(),
            alternation=dict(type="Joint"),
            penalty=penalty,
        ),
        custom_hooks=[dict(type="rarts_mm.ExpectedLatencyHook", **hook)],
    )
    runner.train()
    return runner


@pytest.mark.slow
def test_the_log_has_the_expected_latency_of_every_epoch(tmp_path):
    table = measure_table(tiny_network(), (28, 28), repeats=1, warmup=0)
    table.write(tmp_path / "table.json")
    runner = run(
        tmp_path / "run",
        dict(interval=1),
        dict(type="LatencyPenalty", latencies=str(tmp_path / "table.json"), gamma=0.1),
    )
    logged = [s for s in tiny.scalars(tmp_path / "run") if "latency/sum" in s]
    steps = [s["step"] for s in logged if "loss" not in s]
    # Before the search, and after each epoch of two steps.
    assert steps == [0, 2, 4]
    wanted = {
        f"latency/{name}": (a.detach().softmax(-1) * torch.tensor(table.latencies[name]))
        .sum()
        .item()
        for name, a in runner.model.alpha_parameters().items()
    }
    wanted["latency/sum"] = sum(wanted.values())
    assert {k: logged[-1][k] for k in wanted} == pytest.approx(wanted, rel=1e-5)
    assert logged[-1]["latency/sum"] != pytest.approx(logged[0]["latency/sum"], rel=1e-6)
    text = tiny.log_text(tmp_path / "run")
    assert "table.json: measured on cpu: " in text
    assert "Expected latency after epoch 2: " in text


def tiny_network():
    from rarts_mm.cells import DARTSSearchNetwork

    return DARTSSearchNetwork(channels=2, layers=3)


def test_a_table_of_its_own_needs_no_penalty(tmp_path):
    row = [float(i) for i in range(8)]
    table = dict(normal=row, reduce=row)
    runner = run(tmp_path, dict(table=table, interval=2), epochs=1)
    # Not after the first of two epochs.
    (logged,) = [s for s in tiny.scalars(tmp_path) if "latency/sum" in s and "loss" not in s]
    assert logged["step"] == 0
    # Alpha starts near zero: all operations alike.
    assert logged["latency/sum"] == pytest.approx(2 * 14 * 3.5, rel=1e-3)
    assert runner.iter == 2


def test_without_any_latencies_the_hook_says_so(tmp_path):
    with pytest.raises(ValueError, match=r"no LatencyPenalty.*table=FILE"):
        run(tmp_path, {}, epochs=1)


def test_the_interval_is_checked():
    from rarts_mm.engine.hooks import ExpectedLatencyHook

    with pytest.raises(ValueError, match="at least 1, got 0"):
        ExpectedLatencyHook(interval=0)
