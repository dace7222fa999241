"""A disk that is full: a sentence that names the file, whole old files, nothing half-written.

A limit on the size of files stands for the disk: writing beyond it fails as it does on a full one.
"""

import contextlib
import json
import logging
import pickle
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mmengine.logging import MMLogger

from tests.conftest import ROOT, run_tool


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process grows beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(autouse=True)
def _no_logs_on_full_disks():
    """What the next tests of this process log does not go into the files of these."""
    yield
    for logger in MMLogger._instance_dict.values():
        for handler in [each for each in logger.handlers if isinstance(each, logging.FileHandler)]:
            logger.removeHandler(handler)


def last_line(err: str) -> str:
    assert "Traceback" not in err
    return err.splitlines()[-1]


@pytest.mark.slow
def test_pruning(search_copy):
    out = search_copy / "pruned_40"
    config, checkpoint = next(search_copy.glob("*.py")), search_copy / "epoch_2.pth"
    with largest_file(200_000):
        status, _, err = run_tool("prune", config, checkpoint, "--ratio", "0.4")
    assert status == 2
    line = last_line(err)
    assert line.startswith(f"error: {out}/pruned.pth: File too large; raise the limit")
    assert "--out" in line
    # What was written before is whole; the config that would be relied on is not there.
    assert [path.name for path in out.iterdir()] == ["widths.json"]
    json.loads((out / "widths.json").read_text())
    # And once there is room, the same command goes on.
    status, _, err = run_tool("prune", config, checkpoint, "--ratio", "0.4")
    assert status == 0, err


@pytest.mark.parametrize(
    ("tool", "arguments", "limit"),
    [("make_shapes", ("--train", 2, "--val", 1), 2000), ("make_digits", (), 60)],
)
def test_generated_data(tmp_path, tool, arguments, limit):
    out = tmp_path / "data"
    with largest_file(limit):
        status, _, err = run_tool(tool, "--out", out, *arguments)
    assert status == 2
    assert last_line(err).startswith(f"error: {out}: File too large; ")
    assert not list(tmp_path.iterdir())


def test_predictions_of_a_test(search_copy, small_config, tmp_path):
    out = tmp_path / "out.pkl"
    out.write_bytes(pickle.dumps("old"))
    arguments = (small_config, search_copy / "epoch_2.pth", "--work-dir", tmp_path / "t")
    # Enough for the log and the config, not for the masks of all boxes; metrics write files, too.
    many = ("model.architecture.test_cfg.rcnn.score_thr=0",)
    many += ("model.architecture.test_cfg.rcnn.max_per_img=100", "test_evaluator=[]")
    with largest_file(60_000):
        status, _, err = run_tool("test", *arguments, "--out", out, "--cfg-options", *many)
    assert status == 2
    assert last_line(err).startswith(f"error: {out}: File too large; ")
    assert pickle.loads(out.read_bytes()) == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.pkl", "search", "t"]


def test_the_log_and_the_checkpoint_of_a_training(small_config, tmp_path):
    """The log's end is said once; what the run is for ends it."""
    work_dir = tmp_path / "run"
    with largest_file(20_000):
        status, _, err = run_tool("train", small_config, "--work-dir", work_dir)
    assert status == 2
    warnings = [line for line in err.splitlines() if "the log ends here" in line]
    (log,) = work_dir.glob("*/*.log")
    assert len(warnings) == 1
    assert f"{log}: File too large" in warnings[0]
    assert "Logging error" not in err
    assert last_line(err).startswith("error: ")
    assert "File too large" in last_line(err)


SCALARS = """
import errno, sys
from rarts_mm.apis import command_line
from mmengine.visualization import LocalVisBackend

def main():
    backend = LocalVisBackend(save_dir=sys.argv[1])
    backend.add_scalars(dict(loss=1.0), step=1)

command_line.run(main)
"""


@pytest.mark.slow
def test_the_scalars(tmp_path):
    """MMEngine's own writer, onto a device that is always full."""
    (tmp_path / "scalars.json").symlink_to("/dev/full")
    command = [sys.executable, "-c", SCALARS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2
    line = last_line(done.stderr)
    assert line.startswith(f"error: {tmp_path}/scalars.json: No space left on device; free some")


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    made = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if not made or made.returncode:
        pytest.skip("mounting is not permitted")
    yield folder
    # Lazily: logs of this process may be open there.
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_disk_that_is_really_full(small_disk, search_copy, small_config):
    config, checkpoint = next(search_copy.glob("*.py")), search_copy / "epoch_2.pth"
    for tool, arguments, file in (
        ("make_shapes", ("--out", small_disk / "shapes"), small_disk / "shapes"),
        ("make_digits", ("--out", small_disk / "digits"), small_disk / "digits"),
        (
            "prune",
            (config, checkpoint, "--ratio", 0.4, "--out", small_disk / "p"),
            small_disk / "p" / "pruned.pth",
        ),
    ):
        status, _, err = run_tool(tool, *arguments)
        assert status == 2
        assert last_line(err).startswith(f"error: {file}: No space left on device; free some")
        assert not list(small_disk.rglob(".*"))
    shutil.rmtree(small_disk / "p")
    status, _, err = run_tool("train", small_config, "--work-dir", small_disk / "run")
    assert status == 2
    assert "No space left on device; free some" in last_line(err)
    assert str(small_disk / "run") in last_line(err)
