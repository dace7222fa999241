"""``tools/sweep.py``: the jobs of a description, run here, by Slurm's file and through submitit."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml

from rarts_mm.apis.sweep import read_sweep
from rarts_mm.datasets import make_digits
from tests.commands import Command
from tests.conftest import CONFIGS, ROOT, run_tool

BASE = CONFIGS / "_base_/swin-micro_digits.py"
CONFIG = """
_base_ = "{base}"
train_dataloader = dict(batch_size=250, dataset=dict(data_root="{data}"))
val_dataloader = dict(dataset=dict(data_root="{data}"))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=2, val_interval=1)
default_hooks = dict(checkpoint=dict(interval=1))
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    make_digits(folder / "digits")
    path = folder / "digits.py"
    path.write_text(CONFIG.format(base=BASE, data=folder / "digits"))
    return path


def write(folder, **content):
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def read(path):
    return json.loads(path.read_text())


def test_a_job_for_each_combination(config, tmp_path):
    spec = write(
        tmp_path,
        config=str(config),
        work_dir=str(tmp_path / "work"),
        arguments="--ratio 0.2 0.4 --control",
        options={"optim_wrapper.beta": 0.5},
        grid={
            "optim_wrapper.lam": [0.5, 1.0],
            "randomness.seed": [0, 1],
            "--scope": ["global", "layer"],
            "--scratch": [True, False],
            "model.milestones": [[1, 2], [3]],
        },
    )
    sweep = read_sweep(spec)
    assert len(sweep.jobs) == 32 == len({job.name for job in sweep.jobs})
    first = sweep.jobs[0]
    assert first.name == "lam=0.5,seed=0,scope=global,scratch=True,milestones=1,2"
    tail = [str(config), "--ratio", "0.2", "0.4", "--control", "--scope", "global", "--scratch"]
    tail += ["--work-dir", str(tmp_path / "work" / first.name), "--cfg-options"]
    tail += ["optim_wrapper.beta=0.5", "optim_wrapper.lam=0.5", "randomness.seed=0"]
    assert first.asks == [*tail, "model.milestones=[1,2]"]
    assert first.command[0] == sys.executable
    assert first.command[-len(first.asks) - 3 : -len(first.asks)] == ["-m", "rarts_mm", "compress"]
    assert "--scratch" not in sweep.jobs[2].command
    status, text, _ = run_tool("sweep", spec, "--list")
    assert status == 0
    assert text.splitlines()[0] == f"0: {shlex.join(first.command)}"


def test_names_are_files_of_their_own(config, tmp_path):
    grid = {"a.x": ["../up", "..-up", "x" * 300, "x" * 301], "b.x": [1]}
    sweep = read_sweep(write(tmp_path, config=str(config), grid=grid))
    names = [job.name for job in sweep.jobs]
    assert len(set(names)) == 4
    assert all("/" not in name and len(name) <= 100 for name in names)
    # Both end in x, so that the whole keys tell them apart.
    assert list(sweep.jobs[0].point) == ["a.x", "b.x"]


@pytest.mark.parametrize(
    ("arguments", "grid", "message"),
    [
        ("--ratio 0.4 --scop layer --x", {}, "job 0 (all): unrecognized arguments: --x"),
        ("--control", {"--seed": [1]}, "job 0 (seed=1): give --ratio"),
        ("", {"--ratio": [0.2, 1.4]}, "job 1 (ratio=1.4): --ratio is the share of scores"),
        (
            "--ratio 0.4",
            {"--scope": ["layer", "net"]},
            "job 1 (scope=net): argument --scope: invalid",
        ),
        ("--ratio 0.4", {"--seed": [0, 1]}, "job 0 (seed=0): --seed 0: only --criterion random"),
    ],
)
def test_what_the_tool_does_not_take_is_said_before_a_job_starts(
    config, tmp_path, arguments, grid, message
):
    work = tmp_path / "work"
    spec = write(
        tmp_path, config=str(config), work_dir=str(work), arguments=arguments or [], grid=grid
    )
    for more in ((), ("--list",), ("--slurm",)):
        status, _, err = run_tool("sweep", spec, *more)
        assert status == 2
        assert message in err
    assert not work.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (dict(gird={}), "no such key as 'gird'; did you mean 'grid'?"),
        (dict(tool="prune"), "tool='prune' must be one of compress, train"),
        (dict(config="none.py"), "config='none.py' must be the path of a config file"),
        (dict(work_dir=3), "work_dir=3 must be the path of a folder"),
        (dict(grid={"randomness.seed": 3}), "must be a list of the values to try"),
        (dict(grid={"randomness.seed": []}), "must be a list of the values to try"),
        (dict(grid={"randomness.seed": [1, 1]}), "grid.randomness.seed has 1 more than once"),
        (dict(grid={"random seed": [1]}), "no name of a setting"),
        (dict(grid={"--work-dir": ["a"]}), "each job has a folder of its own"),
        (dict(arguments="--resume"), "every job goes on where it stopped"),
        (dict(arguments=["--cfg-options", "a=1"]), "under options, or under grid"),
        (dict(arguments=3), "arguments=3 must be a text or a list"),
        (dict(options={"a": 1}, grid={"a": [1]}), "a is under options and under grid"),
        (dict(options={"--amp": True}), "stand under arguments"),
        (dict(options=[1]), "must be names and values"),
        (dict(arguments="--ratio 0.4", grid={"--ratio": [0.2]}), "in arguments and under grid"),
    ],
)
def test_a_description_that_makes_no_sense(config, tmp_path, content, message):
    spec = write(tmp_path, **{"config": str(config), **content})
    status, _, err = run_tool("sweep", spec, "--work-dir", tmp_path / "work", "--list")
    if "work_dir" in content:
        status, _, err = run_tool("sweep", spec, "--list")
    assert status == 2
    assert message in err
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("text", ["a: [", "- 1", "\x00", "&a [*a]"])
def test_a_file_that_is_no_description(tmp_path, text):
    (tmp_path / "spec.yaml").write_text(text)
    status, _, err = run_tool("sweep", tmp_path / "spec.yaml")
    assert status == 2
    assert "spec.yaml" in err
    status, _, err = run_tool("sweep", tmp_path / "none.yaml")
    assert status == 2
    assert "none.yaml' does not exist" in err


@pytest.mark.slow
def test_here_one_fails_the_others_are_merged_and_the_same_command_goes_on(config, tmp_path):
    work = tmp_path / "work"
    content = dict(
        tool="train",
        config=str(config),
        work_dir=str(work),
        grid={"train_cfg.max_epochs": [1], "randomness.seed": [0, 1, -1]},
    )
    spec = write(tmp_path, **content)
    status, text, err = run_tool("sweep", spec, "--jobs", 2)
    assert status == 1
    assert "1 of 3 jobs failed" in err
    assert "seed=-1" in err
    assert "about " in text
    assert "randomness.seed=-1" in (work / "logs/max_epochs=1,seed=-1.log").read_text()
    rows = read(work / "results.json")["rows"]
    assert [(row["max_epochs"], row["seed"]) for row in rows] == [("1", "0"), ("1", "1")]
    for row in rows:
        folder = work / f"max_epochs=1,seed={row['seed']}"
        (scalars,) = folder.glob("*/vis_data/scalars.json")
        last = json.loads(scalars.read_text().splitlines()[-1])
        assert row["top-1 %"] == pytest.approx(last["accuracy/top1"])
    (mean,) = read(work / "results_mean.json")["rows"]
    values = torch.tensor([row["top-1 %"] for row in rows], dtype=torch.float64)
    assert (mean["max_epochs"], mean["seeds"]) == ("1", 2)
    assert mean["top-1 %"] == pytest.approx(values.mean().item())
    assert mean["sd of top-1 %"] == pytest.approx(values.std().item())
    assert "not done: max_epochs=1,seed=-1" in read(work / "results.json")["notes"][1]

    # Mended: the two that were done are left alone.
    before = {path: path.stat().st_mtime_ns for path in work.glob("*/*.pth")}
    content["grid"]["randomness.seed"][2] = 2
    status, text, err = run_tool("sweep", write(tmp_path, **content))
    assert status == 0, err
    assert "2 of 3 jobs are done, skipped" in text
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(read(work / "results.json")["rows"]) == 3
    assert read(work / "results_mean.json")["rows"][0]["seeds"] == 3


@pytest.mark.slow
def test_results_of_other_settings_are_not_taken_for_these(config, tmp_path):
    content = dict(
        tool="train",
        config=str(config),
        work_dir=str(tmp_path / "work"),
        options={"train_cfg.max_epochs": 1},
        grid={"randomness.seed": [0]},
    )
    status, _, err = run_tool("sweep", write(tmp_path, **content))
    assert status == 0, err
    content["options"]["optim_wrapper.optimizer.lr"] = 0.1
    before = (tmp_path / "work/jobs/seed=0.json").read_bytes()
    for how in ([], ["--job", 0], ["--submitit", "local"]):
        status, _, err = run_tool("sweep", write(tmp_path, **content), *how)
        assert status == 2, how
        assert "seed=0 holds a training of this sweep that was begun with other settings" in err
        assert (tmp_path / "work/jobs/seed=0.json").read_bytes() == before


def long_sweep(config, tmp_path, **more):
    """Two trainings that take longer than a test."""
    return write(
        tmp_path,
        tool="train",
        config=str(config),
        work_dir=str(tmp_path / "work"),
        options={"train_cfg.max_epochs": 2000, "train_dataloader.batch_size": 20},
        grid={"randomness.seed": [0, 1]},
        **more,
    )


def wait_for_steps(tmp_path, *names, seconds=120):
    """Until the jobs train."""
    until = time.monotonic() + seconds
    for name in names:
        log = tmp_path / "work/logs" / f"{name}.log"
        while not (log.is_file() and "Epoch(train)" in log.read_text()):
            assert time.monotonic() < until, log.read_text() if log.is_file() else "no log"
            time.sleep(0.05)


@pytest.mark.slow
def test_told_to_stop_it_ends_its_jobs(config, tmp_path):
    spec = long_sweep(config, tmp_path)
    command = Command("sweep", spec, "--jobs", 2, log=tmp_path / "log")
    wait_for_steps(tmp_path, "seed=0", "seed=1")
    os.kill(command.process.pid, signal.SIGINT)
    assert command.wait(30) == 130, command.text
    command.nothing_left()
    assert read(tmp_path / "work/jobs/seed=0.json")["status"] is None


@pytest.mark.slow
def test_a_slurm_task_saves_and_is_put_into_the_queue_again(config, tmp_path):
    """With a scontrol that writes down how it is called, as there is no Slurm here."""
    spec = long_sweep(config, tmp_path, slurm=dict(partition="gpu", gres="gpu:1", parallel=1))
    status, text, err = run_tool("sweep", spec, "--slurm")
    assert status == 0, err
    script = tmp_path / "work/sweep.sbatch"
    assert f"sbatch {script}" in text
    lines = script.read_text().splitlines()
    for option in ("partition=gpu", "gres=gpu:1", "array=0-1%1", "requeue", "signal=B:USR1@120"):
        assert f"#SBATCH --{option}" in lines
    # What is edited later does not move the numbers.
    spec.unlink()
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    (tools / "scontrol").chmod(0o755)
    environment = dict(
        os.environ,
        PATH=f"{tools}:{os.environ['PATH']}",
        SLURM_JOB_ID="18",
        SLURM_ARRAY_JOB_ID="17",
        SLURM_ARRAY_TASK_ID="1",
    )
    with open(tmp_path / "log", "w") as log:
        task = subprocess.Popen(
            ["bash", script], env=environment, stdout=log, stderr=log, cwd=tmp_path
        )
        wait_for_steps(tmp_path, "seed=1")
        # As before time runs out; Slurm's own SIGTERM, to take the machine away, is the same.
        task.send_signal(signal.SIGUSR1)
        assert task.wait(60) == 75, (tmp_path / "log").read_text()
    assert (tmp_path / "asked").read_text() == "requeue 17_1\n"
    assert (tmp_path / "work/seed=1/preempted.pth").is_file()
    assert read(tmp_path / "work/jobs/seed=1.json")["status"] == 75


@pytest.mark.parametrize("key", ["array", "signal", "open_mode", "bad key"])
def test_options_that_the_slurm_file_needs_for_itself(config, tmp_path, key):
    given = dict(config=str(config), work_dir=str(tmp_path / "w"), arguments="--ratio 0.4")
    spec = write(tmp_path, **given, slurm={key: "1"})
    status, _, err = run_tool("sweep", spec, "--slurm")
    assert status == 2
    assert f"slurm.{key}" in err
    assert not (tmp_path / "w/sweep.sbatch").exists()


@pytest.mark.slow
def test_one_job(config, tmp_path):
    work = tmp_path / "work"
    grid = {"randomness.seed": [0, 1]}
    spec = write(tmp_path, tool="train", config=str(config), work_dir=str(work), grid=grid)
    status, text, err = run_tool("sweep", spec, "--job", 1)
    assert status == 0, err
    assert (work / "seed=1/epoch_2.pth").is_file()
    assert not (work / "seed=0").exists()
    status, text, _ = run_tool("sweep", spec, "--job", 1)
    assert status == 0
    assert "done before, skipped" in text
    status, _, err = run_tool("sweep", spec, "--job", 2)
    assert status == 2
    assert "has 2 jobs, 0 to 1" in err
    status, text, _ = run_tool("sweep", spec, "--merge")
    assert status == 0
    assert "1 of 2 jobs are done" in text


@pytest.mark.slow
def test_through_submitit_on_this_machine(config, tmp_path):
    work = tmp_path / "work"
    grid = {"randomness.seed": [0, 1]}
    spec = write(tmp_path, tool="train", config=str(config), work_dir=str(work), grid=grid)
    done = subprocess.run(
        [sys.executable, ROOT / "tools/sweep.py", spec, "--submitit", "local"],
        capture_output=True,
        text=True,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
    )
    assert done.returncode == 0, done.stderr
    assert "submitted 2 jobs" in done.stdout
    until = time.monotonic() + 180
    records = [work / f"jobs/seed={seed}.json" for seed in (0, 1)]
    while not all(record.is_file() for record in records):
        assert time.monotonic() < until, list(work.rglob("*.err"))
        time.sleep(0.2)
    assert [read(record)["status"] for record in records] == [0, 0]
    status, text, _ = run_tool("sweep", spec, "--submitit", "local")
    assert status == 0
    assert "submitted 0 jobs" in text


def test_without_submitit(config, tmp_path, monkeypatch):
    monkeypatch.setattr("rarts_mm.apis.sweep.submitting.find_spec", lambda name: None)
    spec = write(
        tmp_path, config=str(config), work_dir=str(tmp_path / "w"), arguments="--ratio 0.4"
    )
    status, _, err = run_tool("sweep", spec, "--submitit")
    assert status == 2
    assert "pip install submitit" in err
