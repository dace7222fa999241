"""A hundred times SIGKILL: what is begun again ends as if nothing had happened, and nothing stays.

Searches of widths and of cells, with and without data workers, are resumed; prune, the whole chain and
the tools that make data are started again. The moments are spread over the whole run.
"""

import contextlib
import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from rarts_mm.datasets import make_digits
from rarts_mm.files import digest
from tests.commands import Command
from tests.conftest import CONFIGS
from tests.engine.resuming import assert_equal, assert_same_search, load
from tests.tiny_files import search_config


@dataclass(frozen=True)
class Job:
    """A command line that can be killed and given again.

    Attributes:
        tool: name of the file in ``tools/``.
        arguments: of the folder that it writes.
        compare: raises unless two such folders hold the same; the second was made without a kill.
    """

    tool: str
    arguments: Callable[[Path], Sequence[object]]
    compare: Callable[[Path, Path], None]

    def start(self, folder: Path) -> Command:
        return Command(self.tool, *self.arguments(folder), log=folder.with_suffix(".log"))

    def finish(self, folder: Path) -> float:
        """Let it end; return the seconds that took."""
        start = time.monotonic()
        command = self.start(folder)
        assert command.wait() == 0, command.text
        command.nothing_left()
        return time.monotonic() - start


def last_checkpoint(folder: Path) -> Path:
    return folder / Path((folder / "last_checkpoint").read_text()).name


def same_searches(parts: Path, whole: Path) -> None:
    assert last_checkpoint(parts).name == last_checkpoint(whole).name
    assert_same_search(last_checkpoint(parts), last_checkpoint(whole))


def same_files(parts: Path, whole: Path) -> None:
    found, wanted = (
        {str(p.relative_to(folder)): digest(p) for p in folder.rglob("*") if p.is_file()}
        for folder in (parts, whole)
    )
    assert found == wanted
    assert wanted


def same_pruned(parts: Path, whole: Path) -> None:
    for name in ("pruned.py", "widths.json"):
        text = (parts / name).read_text()
        assert text.replace(str(parts), str(whole)) == (whole / name).read_text(), name
    assert_equal(load(parts / "pruned.pth")["state_dict"], load(whole / "pruned.pth")["state_dict"])
    assert {p.name for p in parts.iterdir()} == {p.name for p in whole.iterdir()}


def search_job(folder: Path, space: str, workers: int) -> Job:
    loading = dict(num_workers=workers, persistent_workers=bool(workers))
    config = search_config(
        folder / "config.py",
        space,
        train_dataloader=loading,
        val_dataloader=loading,
        default_hooks=dict(checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=3)),
    )

    def arguments(work_dir: Path) -> list[object]:
        return [config, "--work-dir", work_dir, "--resume"]

    return Job("train", arguments, same_searches)


def killed_again_and_again(
    job: Job,
    folder: Path,
    kills: int,
    seed: int,
    gone: Callable[[Path], None] = lambda folder: None,
) -> None:
    """Kill a job so many times at random moments, and look at each of its ends.

    Args:
        gone: waits until nothing is left of a job, besides what is in its session.
    """
    number = random.Random(seed)
    whole = folder / "whole"
    seconds = job.finish(whole)
    ends = 0
    while kills:
        parts = folder / f"parts{ends}"
        ended = False
        while kills and not ended:
            command = job.start(parts)
            command.signal_after(number.uniform(0, seconds), signal.SIGKILL)
            status = command.wait()
            command.nothing_left()
            gone(folder)
            ended = status == 0
            if ended:
                # A machine that had more to do before: later moments would not come.
                seconds = min(seconds, time.monotonic() - command.started)
            assert ended or status == -signal.SIGKILL, command.text
            kills -= not ended
        if not ended:
            job.finish(parts)
        job.compare(parts, whole)
        ends += 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("space", "workers", "kills"),
    [("widths", 0, 15), ("widths", 2, 15), ("CellSpace", 0, 10), ("NATSSpace", 2, 10)],
)
def test_searches(tmp_path, space, workers, kills):
    killed_again_and_again(search_job(tmp_path, space, workers), tmp_path, kills, kills + workers)


@pytest.mark.slow
def test_prune(tmp_path):
    config = search_config(tmp_path / "config.py")
    search = Job("train", lambda folder: [config, "--work-dir", folder], same_searches)
    search.finish(tmp_path / "search")
    checkpoint = last_checkpoint(tmp_path / "search")
    asked = [tmp_path / "search" / "config.py", checkpoint, "--ratio", "0.4", "--scratch"]
    job = Job("prune", lambda folder: [*asked, "--out", folder], same_pruned)
    killed_again_and_again(job, tmp_path, 20, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tool", "options", "kills"),
    [("make_shapes", ["--train", "150", "--val", "50"], 10), ("make_digits", [], 10)],
)
def test_data_tools(tmp_path, tool, options, kills):
    job = Job(tool, lambda folder: ["--out", folder, *options], same_files)
    killed_again_and_again(job, tmp_path, kills, kills)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_compress(tmp_path, monkeypatch):
    # Its stages are sessions of their own; they are known by what they were started with.
    monkeypatch.setenv(MARK, str(tmp_path))
    folder = tmp_path / "digits"
    make_digits(folder)
    options = [
        *("train_cfg.max_epochs=1", "train_cfg.val_interval=1", "randomness.seed=0"),
        *("finetune.train_cfg.max_epochs=1", "finetune.train_cfg.val_interval=1"),
        *("train_dataloader.batch_size=250", "randomness.deterministic=True"),
        *(f"{p}_dataloader.dataset.data_root={folder}" for p in ("train", "val", "test")),
    ]
    config = CONFIGS / "sidt_swin_micro_digits.py"

    def arguments(work_dir: Path) -> list[object]:
        return [config, "--ratio", "0.4", "--work-dir", work_dir, "--cfg-options", *options]

    killed_again_and_again(Job("compress", arguments, same_chains), tmp_path, 10, 0, staged)


MARK = "RARTS_MM_TEST_MARK"


def same_chains(parts: Path, whole: Path) -> None:
    tuned = "pruned_40/finetune/epoch_1.pth"
    for name in ("baseline/epoch_1.pth", "search/epoch_1.pth", "pruned_40/pruned.pth", tuned):
        states = [load(folder / name)["state_dict"] for folder in (parts, whole)]
        assert_equal(*states)
    rows, others = (json.loads((f / "results.json").read_text())["rows"] for f in (parts, whole))
    for row, other in zip(rows, others, strict=True):
        # All but the latency is the same.
        assert {**row, "latency": 0} == {**other, "latency": 0}


def staged(folder: Path, seconds: float = 10.0) -> None:
    """Wait until no process that was started for a chain in the folder is left."""
    mark = f"{MARK}={folder}".encode()
    deadline = time.monotonic() + seconds
    while left := [pid for pid, environment in environments() if mark in environment]:
        assert time.monotonic() < deadline, f"processes {left} are left"
        time.sleep(0.1)


def environments() -> Iterator[tuple[int, list[bytes]]]:
    """What every process but this one was started with."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            pid = int(path.parent.name)
            if pid != os.getpid() and (content := path.read_bytes()):
                yield pid, content.split(b"\0")
