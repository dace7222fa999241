"""SIGTERM, Ctrl-C and SIGKILL: a command ends with one line, and takes along what it started."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yapf.yapflib.yapf_api

import rarts_mm.datasets
from rarts_mm.apis import stopping
from tests.commands import ROOT, Command, members, nothing_left
from tests.tiny_files import search_config

SIGNALS = [(signal.SIGTERM, "stopped"), (signal.SIGINT, "interrupted")]


def ends_with_one_line(command: Command, signum: int, said: str) -> None:
    assert command.wait(60) == 128 + signum, command.text
    *before, last = command.text.splitlines()
    assert last.startswith(said)
    for trace in ("Traceback", "Exception ignored", said):
        assert not any(trace in line for line in before), command.text
    command.nothing_left()


@pytest.mark.parametrize(("signum", "said"), SIGNALS)
def test_while_a_config_is_formatted(tmp_path, monkeypatch, signum, said):
    """MMEngine makes a SyntaxError, with the whole config in it, of whatever ends the formatting."""
    config = search_config(tmp_path / "config.py")
    monkeypatch.setattr(
        yapf.yapflib.yapf_api, "FormatCode", lambda *_, **__: os.kill(os.getpid(), signum)
    )
    log, work_dir = tmp_path / "log", tmp_path / "run"
    command = Command("train", config, "--work-dir", work_dir, log=log, patched=True)
    ends_with_one_line(command, signum, said)


class _Destroyed:
    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


def _swallow(**_) -> None:
    while True:
        try:
            print("swallowing", flush=True)
            time.sleep(60)
        # What the test is about: code of others that swallows the wish to stop.
        except stopping.Stopped:
            continue


@pytest.fixture
def making_digits(tmp_path, monkeypatch):
    """Starts ``make_digits`` with another function in the place of its own."""

    def start(function) -> Command:
        monkeypatch.setattr(rarts_mm.datasets, "make_digits", function)
        return Command(
            "make_digits", "--out", tmp_path / "digits", log=tmp_path / "log", patched=True
        )

    return start


def wait_for(command: Command, text: str, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not (command.log.exists() and text in command.text):
        assert command.process.is_alive(), command.text
        assert time.monotonic() < until, command.text
        time.sleep(0.02)


def test_in_a_destructor(making_digits):
    """Python ignores what is raised there."""

    def make(**_) -> None:
        _Destroyed()
        time.sleep(60)

    ends_with_one_line(making_digits(make), signal.SIGTERM, "stopped")


@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
def test_whoever_swallows_it_is_ended(making_digits, monkeypatch, twice):
    """After a while, or by a second signal."""
    monkeypatch.setattr(stopping, "_PATIENCE", 60.0 if twice else 1.5)
    command = making_digits(_swallow)
    wait_for(command, "swallowing")
    os.kill(command.process.pid, signal.SIGTERM)
    wait_for(command, "swallowing\nswallowing")
    if twice:
        time.sleep(stopping._TWICE + 0.2)
        os.kill(command.process.pid, signal.SIGTERM)
    assert command.wait(30) == 128 + signal.SIGTERM


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["train", "prune", "test"])
def test_at_random_moments(tmp_path, tool):
    config = search_config(tmp_path / "config.py", train_dataloader=dict(num_workers=1))
    run = Command("train", config, "--work-dir", tmp_path / "run", log=tmp_path / "run.log")
    assert run.wait() == 0, run.text
    files = [tmp_path / "run" / "config.py", tmp_path / "run" / "epoch_2.pth"]
    number = random.Random(tool)
    seconds = None
    for i in range(13):
        out = tmp_path / f"out{i}"
        arguments = dict(
            train=[config, "--work-dir", out],
            prune=[*files, "--ratio", "0.4", "--out", out],
            test=[*files, "--work-dir", out],
        )[tool]
        start = time.monotonic()
        command = Command(tool, *arguments, log=tmp_path / f"{i}.log")
        if seconds is None:
            assert command.wait() == 0, command.text
            seconds = time.monotonic() - start
            continue
        signum, said = SIGNALS[i % 2]
        # Before that it is no command yet, but a copy of this process.
        begun = 0.2
        command.signal_after(begun + number.uniform(0, 0.95 * seconds), signum)
        if command.wait(60) != 0:
            ends_with_one_line(command, signum, said)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)], ids=str)
def test_data_workers_end_with_a_killed_trainer(tmp_path, method):
    """Each holds the pipe open that another waits to write to, so torch's own watch does not do."""
    loading = dict(num_workers=2, persistent_workers=True)
    config = search_config(
        tmp_path / "config.py",
        train_dataloader=dict(loading, multiprocessing_context=method),
        train_cfg=dict(max_epochs=1000, val_interval=1000),
        default_hooks=dict(checkpoint=dict(type="CheckpointHook", interval=1000)),
    )
    command = Command("train", config, "--work-dir", tmp_path / "run", log=tmp_path / "log")
    wait_for(command, "Epoch(train)", 240)
    # Two for each half of the data.
    assert len(members(command.session)) >= 5
    os.kill(command.process.pid, signal.SIGKILL)
    command.wait()
    command.nothing_left()


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_ranks_end_with_torchrun(tmp_path, signum):
    """And their data workers with them."""
    config = search_config(
        tmp_path / "config.py",
        train_dataloader=dict(num_workers=1, persistent_workers=True),
        train_cfg=dict(max_epochs=1000, val_interval=1000),
    )
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    tool = [ROOT / "tools" / "train.py", config, "--work-dir", tmp_path / "run"]
    cleared = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}
    environment = {k: v for k, v in os.environ.items() if k not in cleared}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    log = tmp_path / "log"
    with open(log, "w") as file:
        agent = subprocess.Popen(
            [*launcher, *tool, "--launcher", "pytorch"],
            env=environment,
            stdout=file,
            stderr=file,
        )
    until = time.monotonic() + 300
    while "Epoch(train)" not in log.read_text():
        assert agent.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.1)
    # Each rank is the leader of a session, in which its workers are.
    children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children")
    ranks = [int(pid) for pid in children.read_text().split()]
    ranks = [pid for pid in ranks if "train.py" in members(pid).get(pid, "")]
    assert len(ranks) == 2
    agent.send_signal(signum)
    agent.wait(60)
    for rank in ranks:
        nothing_left(rank)
    # Torchrun has a traceback of its own.
    assert "Error" not in log.read_text().split("Epoch(train)")[-1].split("SignalException")[0]
