"""The whole chain by one command, killed in the middle and started again."""

import json
import os
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT, run_tool


def command(config, work_dir, *more):
    return [
        sys.executable,
        ROOT / "tools" / "compress.py",
        config,
        *("--ratio", "0.4", "--work-dir", work_dir, *more),
    ]


@pytest.fixture(scope="module")
def chain(small_config, tmp_path_factory):
    """A finished chain that was killed during the search; its folder and the second run's output.

    With two threads, as users have them.
    """
    work_dir = tmp_path_factory.mktemp("chain")
    env = dict(os.environ, OMP_NUM_THREADS="2")
    first = subprocess.Popen(
        command(small_config, work_dir, "--control"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        env=env,
    )
    deadline = time.monotonic() + 300
    while not (work_dir / "search" / "last_checkpoint").is_file():
        assert first.poll() is None, "the first run ended by itself"
        assert time.monotonic() < deadline, "no checkpoint of the search in time"
        time.sleep(0.05)
    # The chain alone: its stage has to end with it.
    first.kill()
    first.wait()
    assert list(json.loads((work_dir / "stages.json").read_text())["done"]) == ["baseline"]
    second = subprocess.run(
        command(small_config, work_dir, "--control"),
        **dict(capture_output=True, text=True, timeout=500, env=env),
    )
    assert second.returncode == 0, second.stderr[-3000:]
    return work_dir, second.stdout


@pytest.mark.slow
def test_goes_on_where_it_stopped(chain):
    work_dir, text = chain
    assert "[baseline] done before, skipped" in text
    # The search's own second epoch followed its first.
    assert f"--work-dir {work_dir / 'search'} --resume" in text


@pytest.mark.slow
def test_the_screen_is_short_and_the_logs_are_whole(chain):
    work_dir, text = chain
    # Besides the stages' own lines, of which there is one every ten seconds, a table of results.
    assert sum(not line.startswith("[") for line in text.splitlines()) < 40
    assert "Epoch(train)" not in text
    search = (work_dir / "logs" / "search.log").read_text()
    assert "Epoch(train) [2][3/3]" in search
    assert "eta:" in search
    assert "sliced = masked" in (work_dir / "logs" / "prune-40.log").read_text()
    assert "[prune 40 %]" in text
    assert "of the parameters and" in text


@pytest.mark.slow
def test_results_table(chain):
    work_dir, text = chain
    rows = json.loads((work_dir / "results.json").read_text())["rows"]
    names = [row["model"] for row in rows]
    assert names == ["baseline", "pruned 40 %", "pruned 40 %, fine-tuned", "baseline, trained on"]
    base, before, after, control = rows
    for row in rows:
        assert 0 <= row["box AP"] <= 1
        assert 0 <= row["mask AP"] <= 1
        assert row["latency"] > 0
    assert before["parameters"] == after["parameters"] < base["parameters"] == control["parameters"]
    assert before["FLOPs"] == after["FLOPs"] < base["FLOPs"]
    markdown = (work_dir / "results.md").read_text()
    assert "| pruned 40 %, fine-tuned |" in markdown
    assert "box AP" in text


@pytest.mark.slow
def test_control_trains_as_many_steps_as_search_and_fine_tuning(chain):
    work_dir, _ = chain
    # 2 epochs of 3 pairs of batches, then 1 epoch of 6 batches; 12 steps are 2 epochs of 6.
    note = json.loads((work_dir / "results.json").read_text())["notes"][1]
    assert "2 more epochs, as many steps as the search and one fine-tuning (12)" in note
    assert (work_dir / "control" / "epoch_2.pth").is_file()


@pytest.mark.slow
def test_every_stage_can_be_repeated_by_hand(chain):
    work_dir, text = chain
    for stage in ("search.py", "baseline.py", "control.py", "pruned_40/pruned.py"):
        assert f"python tools/train.py {work_dir / stage}" in text or stage == "baseline.py"
        assert (work_dir / stage).is_file()


@pytest.mark.slow
def test_a_finished_chain_runs_no_stage_again(chain, small_config):
    work_dir, _ = chain
    run = subprocess.run(
        command(small_config, work_dir, "--control"), capture_output=True, text=True, timeout=100
    )
    assert run.returncode == 0
    assert "Epoch(train)" not in run.stdout + run.stderr
    assert run.stdout.count("done before, skipped") == 10


@pytest.mark.slow
def test_another_config_does_not_mix_with_a_finished_chain(chain, small_config):
    work_dir, _ = chain
    arguments = ("--ratio", "0.4", "--work-dir", work_dir, "--cfg-options", "optim_wrapper.beta=1")
    status, _, err = run_tool("compress", small_config, *arguments)
    assert status == 2
    assert "holds another run (it differs in config: " in err


@pytest.mark.slow
def test_another_ratio_uses_the_same_search(chain, small_config):
    work_dir, _ = chain
    before = json.loads((work_dir / "results.json").read_text())["rows"]
    arguments = ("--ratio", "0.7", "--work-dir", work_dir)
    run = subprocess.run(
        [sys.executable, ROOT / "tools" / "compress.py", small_config, *arguments],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    for stage in ("baseline", "search"):
        assert f"[{stage}] done before, skipped" in run.stdout
    rows = json.loads((work_dir / "results.json").read_text())["rows"]
    parameters = {row["model"]: row["parameters"] for row in rows}
    assert parameters["pruned 70 %"] < parameters["pruned 40 %"] < parameters["baseline"]
    # The table forgets nothing, and latencies are those of one measurement.
    kept = [row for row in rows if "70" not in row["model"]]
    for row, old in zip(kept, before, strict=True):
        assert {k: v for k, v in row.items() if k != "latency"} == {
            k: v for k, v in old.items() if k != "latency"
        }
    assert rows[0]["latency"] == kept[-1]["latency"]


def test_bad_ratio_and_missing_data_before_anything_is_trained(small_config, tmp_path):
    status, _, err = run_tool(
        "compress", small_config, "--ratio", "4", "--work-dir", tmp_path / "w"
    )
    assert status == 2
    assert "strictly between 0 and 1" in err
    status, _, err = run_tool(
        "compress",
        small_config,
        *("--ratio", "0.4", "--work-dir", tmp_path / "w", "--cfg-options"),
        "train_dataloader.dataset.data_root=nowhere",
    )
    assert status == 2
    assert "nowhere" in err
    assert not (tmp_path / "w").exists()


@pytest.mark.slow
def test_a_folder_is_one_chains_from_its_first_moment(small_config, tmp_path):
    """Also before its first stage has ended."""
    work_dir = tmp_path / "work"
    first = subprocess.Popen(
        command(small_config, work_dir),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 300
    while not (work_dir / "logs" / "baseline.log").is_file():
        assert first.poll() is None, "the first run ended by itself"
        assert time.monotonic() < deadline, "no baseline in time"
        time.sleep(0.05)
    arguments = (small_config, "--ratio", "0.4", "--work-dir", work_dir)
    status, _, err = run_tool("compress", *arguments)
    assert status == 2
    assert f"process {first.pid}" in err
    first.terminate()
    _, err = first.communicate(timeout=30)
    assert first.returncode == 143
    assert err.strip().endswith("stopped; the same command goes on from here")
    assert "Traceback" not in err
    status, _, err = run_tool("compress", *arguments, "--cfg-options", "optim_wrapper.beta=1")
    assert status == 2
    assert "holds another run (it differs in config: " in err
