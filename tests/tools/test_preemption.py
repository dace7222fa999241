"""Told to make room (SIGUSR1, in Slurm SIGTERM): saved, status 75, and nothing of the training is lost."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch

from rarts_mm.datasets import make_digits
from tests.commands import Command
from tests.conftest import CONFIGS, ROOT, run_tool

PREEMPTED = 75
CONFIG = """
_base_ = "{base}"
custom_imports = dict(imports=["rarts_mm", "tests.signalling"], allow_failed_imports=False)
train_dataloader = dict(batch_size=64, dataset=dict(data_root="{data}"))
val_dataloader = dict(dataset=dict(data_root="{data}"))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=3, val_interval=1)
finetune = dict(train_cfg=dict(max_epochs=1, val_interval=1))
randomness = dict(seed=3, deterministic=True)
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=3), logger=dict(interval=1))
"""
BASES = {
    "plain": CONFIGS / "_base_/swin-micro_digits.py",
    "search": CONFIGS / "sidt_swin_micro_digits.py",
}
# Batches of 64 of 1000 images, or of half of them.
LENGTHS = {"plain": 16, "search": 8}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "digits"
    make_digits(folder)
    return folder


@pytest.fixture(scope="module")
def configs(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("configs")
    for kind, base in BASES.items():
        (folder / f"{kind}.py").write_text(CONFIG.format(base=base, data=data))
    return {kind: folder / f"{kind}.py" for kind in BASES}


@pytest.fixture(scope="module")
def whole(configs, tmp_path_factory):
    """Work dirs of trainings that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    for kind, config in configs.items():
        status, _, err = run_tool("train", config, "--work-dir", folder / kind)
        assert status == 0, err
    return folder


def signalling(config, folder, signal_name, at):
    """The config, with a hook that sends the signal."""
    path = folder / config.name
    hook = dict(type="rarts_mm.SignallingHook", name=signal_name, at=at)
    path.write_text(f'_base_ = "{config}"\ncustom_hooks = {[hook]}\n')
    return path


def read(path):
    return torch.load(path, weights_only=False)


@pytest.mark.parametrize(
    ("kind", "at"),
    # In the middle of an epoch, at its end, and in the run's first step.
    [
        *((kind, n + 3) for kind, n in LENGTHS.items()),
        *(
            pytest.param(kind, at, marks=pytest.mark.slow)
            for kind, n in LENGTHS.items()
            for at in (2 * n, 1)
        ),
    ],
)
def test_it_goes_on_as_if_nothing_had_been(configs, whole, tmp_path, kind, at):
    work = tmp_path / "work"
    config = signalling(configs[kind], tmp_path, "SIGUSR1", at)
    command = Command("train", config, "--work-dir", work, log=tmp_path / "first.log")
    assert command.wait() == PREEMPTED, command.text
    assert "go on with --resume.\nended to make room\n" in command.text
    meta = read(work / "preempted.pth")["meta"]
    assert meta["iter"] == at
    assert (work / "last_checkpoint").read_text() == str(work / "preempted.pth")
    # The signal comes at a step that is over.
    again = Command("train", config, "--work-dir", work, "--resume", log=tmp_path / "again.log")
    assert again.wait() == 0, again.text
    reference = read(whole / kind / "epoch_3.pth")
    resumed = read(work / "epoch_3.pth")
    assert resumed["meta"]["iter"] == reference["meta"]["iter"] == 3 * LENGTHS[kind]
    for key, value in reference["state_dict"].items():
        assert torch.equal(value, resumed["state_dict"][key]), key
    assert not (work / "preempted.pth").exists()
    assert (work / "last_checkpoint").read_text() == str(work / "epoch_3.pth")


def test_after_the_last_step_there_is_nothing_to_make_room_for(configs, tmp_path):
    work = tmp_path / "work"
    config = signalling(configs["plain"], tmp_path, "SIGUSR1", 3 * LENGTHS["plain"])
    command = Command("train", config, "--work-dir", work, log=tmp_path / "log")
    assert command.wait() == 0, command.text
    assert not (work / "preempted.pth").exists()
    assert "Epoch(val) [3]" in command.text


@pytest.mark.parametrize(("job", "status"), [("17", PREEMPTED), (None, 128 + signal.SIGTERM)])
def test_sigterm_is_a_preemption_in_a_job_of_slurms(configs, tmp_path, monkeypatch, job, status):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    if job is not None:
        monkeypatch.setenv("SLURM_JOB_ID", job)
    work = tmp_path / "work"
    config = signalling(configs["plain"], tmp_path, "SIGTERM", 4)
    command = Command("train", config, "--work-dir", work, log=tmp_path / "log")
    assert command.wait() == status, command.text
    assert (work / "preempted.pth").exists() == (status == PREEMPTED)
    command.nothing_left()


def test_slurm_tells_the_data_workers_too(configs, tmp_path, monkeypatch):
    """Its SIGTERM goes to every process of a job; they have to go on until the trainer has saved."""
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    work = tmp_path / "work"
    arguments = ["train_dataloader.num_workers=2", "train_dataloader.persistent_workers=True"]
    command = Command(
        *("train", configs["plain"], "--work-dir", work, "--cfg-options", *arguments),
        *("train_cfg.max_epochs=500",),
        log=tmp_path / "log",
    )
    until = time.monotonic() + 60
    while "Epoch(train)" not in command.text:
        assert time.monotonic() < until, command.text
        time.sleep(0.05)
    os.killpg(command.session, signal.SIGTERM)
    assert command.wait(20) == PREEMPTED, command.text
    assert (work / "preempted.pth").is_file()
    command.nothing_left()


def test_what_saves_nothing_ends_at_once(search_run, tmp_path):
    """Before it has computed much: while it reads what it was given."""
    checkpoint = search_run / "epoch_2.pth"
    command = Command(
        *("prune", next(search_run.glob("*.py")), checkpoint, "--curve", "--out", tmp_path / "out"),
        log=tmp_path / "log",
    )
    command.signal_after(1.5, signal.SIGUSR1)
    assert command.wait(20) == PREEMPTED, command.text
    assert "Traceback" not in command.text
    command.nothing_left()


@pytest.mark.slow
def test_a_chain_hands_it_on_and_goes_on_within_the_stage(configs, tmp_path):
    config = configs["search"]
    work = tmp_path / "work"
    command = [sys.executable, ROOT / "tools/compress.py", config, "--ratio", "0.4"]
    command += ["--work-dir", work]
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    with open(tmp_path / "first.log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        until = time.monotonic() + 120
        log_file = work / "logs/search.log"
        while time.monotonic() < until:
            text = log_file.read_text() if log_file.is_file() else ""
            if re.search(r"Epoch\(train\)\s+\[1\]\[\s*3/", text):
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGUSR1)
        assert process.wait(60) == PREEMPTED, (tmp_path / "first.log").read_text()
    assert "the same command goes on from here" in (tmp_path / "first.log").read_text()
    saved = read(work / "search/preempted.pth")["meta"]["iter"]
    assert 3 <= saved < 24
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "[baseline] done before, skipped" in done.stdout
    assert read(work / "search/epoch_3.pth")["meta"]["iter"] == 24
    assert not (work / "search/preempted.pth").exists()
