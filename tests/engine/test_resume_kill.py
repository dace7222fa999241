"""SIGKILL: nobody gets to tidy up, and the search ends as if nothing had happened."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import Hook

from tests.conftest import ROOT
from tests.engine.resuming import assert_same_search, data, load, run

FORK = multiprocessing.get_context("fork")


@register_backend("tests.half_written")
class HalfWritten(LocalBackend):
    """Writes under the name itself, as MMEngine does, and sleeps in the middle of one file."""

    slow = ""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        with open(filepath, "wb") as file:
            file.write(obj[: len(obj) // 2])
            file.flush()
            if Path(filepath).name == self.slow:
                time.sleep(60)
            file.write(obj[len(obj) // 2 :])


def _slow_flush(descriptor: int) -> None:
    name = os.readlink(f"/proc/self/fd/{descriptor}")
    if ".epoch_2-" in name:
        time.sleep(60)


class Progress(Hook):
    """Tells the parent process which step begins."""

    def __init__(self, step) -> None:
        self.step = step

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self.step.value = runner.iter


def _search(folder: Path, settings: dict, slow: bool, step) -> None:
    # A group of its own, which is killed as a whole: loaders' workers would outlive it for ever, as
    # each holds the pipe open that another waits to write to.
    os.setsid()
    # Threads of torch do not survive a fork, and how many there are may change the last bit.
    torch.set_num_threads(1)
    if slow:
        os.fsync = _slow_flush
        HalfWritten.slow = "epoch_2.pth"
    run(folder, custom_hooks=[Progress(step)], **settings)


def start(folder: Path, slow: bool = False, **settings):
    """A search in a process of its own, with a disk that never finishes epoch_2.pth if ``slow``."""
    step = FORK.Value("i", -1, lock=False)
    process = FORK.Process(target=_search, args=(folder, settings, slow, step), daemon=False)
    process.step = step
    process.start()
    return process


def finish(process) -> None:
    process.join(120)
    assert process.exitcode == 0


def kill(process) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def wait_for(process, condition, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        alive = process.poll() is None if hasattr(process, "poll") else process.is_alive()
        assert alive, "the search ended before"
        assert time.monotonic() < until
        time.sleep(0.002)


def settings(workers: int, by_epoch: bool) -> dict:
    loader = data(21, 2, noisy=True, num_workers=workers, persistent_workers=bool(workers))
    checkpoint = dict(interval=1) if by_epoch else dict(by_epoch=False, interval=3)
    split = dict(split=dict(ratio=0.4))
    return dict(noisy=True, epochs=4, data=loader, checkpoint=checkpoint, loop=split)


def killed_again_and_again(tmp_path: Path, number: random.Random, times: int, **kwargs) -> None:
    """Kill a search at random moments, and compare what comes of it with the uninterrupted one."""
    finish(start(tmp_path / "whole", **kwargs))
    last = (tmp_path / "whole" / "last_checkpoint").read_text().rpartition("/")[2]
    steps = load(tmp_path / "whole" / last)["meta"]["iter"]
    for _ in range(times):
        process = start(tmp_path / "parts", resume=True, **kwargs)
        step = number.randrange(steps - 2)
        wait_for(process, lambda process=process, step=step: process.step.value >= step)
        time.sleep(number.uniform(0, 0.03))
        kill(process)
    finish(start(tmp_path / "parts", resume=True, **kwargs))
    assert_same_search(tmp_path / "parts" / last, tmp_path / "whole" / last)


@pytest.mark.slow
def test_killed_at_a_random_moment(tmp_path):
    killed_again_and_again(tmp_path, random.Random(0), 2, **settings(0, by_epoch=False))


@pytest.mark.slow
@pytest.mark.parametrize("by_epoch", [True, False], ids=["epoch", "iteration"])
@pytest.mark.parametrize(("workers", "seed"), [(0, 0), (0, 1), (0, 2), (2, 3)])
def test_killed_at_random_moments(tmp_path, workers, by_epoch, seed):
    killed_again_and_again(tmp_path, random.Random(seed), 5, **settings(workers, by_epoch))


@pytest.mark.slow
@pytest.mark.parametrize("backend", [None, "tests.half_written"], ids=["atomic", "plain"])
def test_killed_while_a_checkpoint_is_written(tmp_path, backend):
    """The unfinished file has another name; where it has not, it is recognised."""
    kwargs = settings(0, by_epoch=True)
    if backend:
        kwargs["checkpoint"]["backend_args"] = dict(backend=backend)
    finish(start(tmp_path / "whole", **kwargs))
    folder = tmp_path / "parts"
    process = start(folder, slow=True, **kwargs)
    pattern = "epoch_2.pth" if backend else ".epoch_2-*.pth"
    wait_for(process, lambda: any(p.stat().st_size for p in folder.glob(pattern)))
    kill(process)
    (unfinished,) = folder.glob(pattern)
    if backend:
        # As if it had been killed a moment later: MMEngine does not wait for the disk.
        (folder / "last_checkpoint").write_text(str(unfinished))
    else:
        assert not (folder / "epoch_2.pth").exists()
    assert load(folder / "epoch_1.pth")["meta"]["epoch"] == 1
    finish(start(folder, resume=True, **kwargs))
    assert_same_search(folder / "epoch_4.pth", tmp_path / "whole" / "epoch_4.pth")
    assert backend or not unfinished.exists()


@pytest.mark.slow
def test_the_command_line_killed_at_random_moments(tmp_path, small_config):
    """A detector, from images on the disk to the checkpoint, in processes of their own."""
    environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT))
    options = [
        "train_dataloader.num_workers=2",
        "default_hooks.checkpoint.by_epoch=False",
        "default_hooks.checkpoint.interval=1",
    ]

    def command(folder: Path, *more: str) -> subprocess.Popen:
        train = (sys.executable, "tools/train.py", small_config, "--work-dir", folder)
        return subprocess.Popen(
            [*train, *more, "--cfg-options", *options],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    assert command(tmp_path / "whole").wait(300) == 0
    folder = tmp_path / "parts"
    number = random.Random(0)
    for name in ("iter_1.pth", "iter_4.pth"):
        process = command(folder, "--resume")
        wait_for(process, (folder / name).is_file, 300)
        time.sleep(number.uniform(0, 0.5))
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
    assert command(folder, "--resume").wait(300) == 0
    last = (tmp_path / "whole" / "last_checkpoint").read_text().rpartition("/")[2]
    assert_same_search(folder / last, tmp_path / "whole" / last)
