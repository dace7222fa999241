"""Shared by tests that go through the command lines: a small search, run once."""

import contextlib
import ctypes
import gc
import importlib
import io
import os
import shutil
import sys
import time
import warnings
from multiprocessing import forkserver
from pathlib import Path
from types import ModuleType

import pytest
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer
from yapf.yapflib import yapf_api

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"


def _not_laid_out(text: str, filename: str = "<unknown>", **_: object) -> tuple[str, bool]:
    """yapf's layout changes no word of a config, and would take an eighth of the suite's time."""
    compile(text, filename, "exec")
    return text, True


# What runs in a process of its own, such as a stage of a chain, lays its configs out.
LAYOUT, yapf_api.FormatCode = yapf_api.FormatCode, _not_laid_out


def load_tool(name: str) -> ModuleType:
    """A command's module, to call its ``main`` as the command line does; imported anew, as in each of these."""
    name = f"rarts_mm.commands.{name}"
    sys.modules.pop(name, None)
    return importlib.import_module(name)


def forget_runs() -> None:
    """Forget what MMEngine keeps for a whole process: another command starts with nothing of it."""
    kinds = [Visualizer]
    while kinds:
        kind = kinds.pop()
        kind._instance_dict.clear()
        kinds += kind.__subclasses__()
    DefaultScope._instance_dict.clear()


# Makes orphans below this process its children, instead of init's (linux/prctl.h).
_PR_SET_CHILD_SUBREAPER = 36


def _descendants() -> dict[int, str]:
    """What runs below this process, apart from multiprocessing's own helpers, with command lines."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state, parent = stat.read_text().rpartition(") ")[2].split()[:2]
            if state not in "ZX":
                children.setdefault(int(parent), []).append(int(stat.parent.name))
    found, waiting = {}, [os.getpid()]
    while waiting:
        for pid in children.get(waiting.pop(), []):
            waiting.append(pid)
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    # Which stays until this process ends.
    found.pop(forkserver._forkserver._forkserver_pid, None)
    return {pid: line for pid, line in found.items() if "resource_tracker" not in line}


@pytest.fixture(scope="session", autouse=True)
def _nothing_stays():
    """Ten seconds after the last test no process that a test started is left, orphans included.

    With several workers it is said, not refused: loaders that a test's runner holds live as long as it.
    """
    before = _descendants()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    yield
    # Runners hold their loaders' workers in cycles.
    gc.collect()
    until = time.monotonic() + 10
    while (left := _descendants().keys() - before) and time.monotonic() < until:
        time.sleep(0.1)
    lines = {pid: line for pid, line in _descendants().items() if pid in left}
    if "PYTEST_XDIST_WORKER" in os.environ and lines:
        warnings.warn(f"processes that tests started are left: {lines}", stacklevel=1)
        return
    assert not lines, lines


@pytest.fixture(autouse=True)
def _no_run_before():
    """No test sees the default scope that another one's command line left."""
    DefaultScope._instance_dict.clear()


def run_tool(name: str, *args: object) -> tuple[int, str, str]:
    """Run a command line in this process; return its exit status, output and error output."""
    forget_runs()
    tool = load_tool(name)
    # Not from the top: some tests look at what an import brings.
    from rarts_mm.apis import command_line

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            command_line.run(lambda: tool.main([str(a) for a in args]))
            status = 0
        except SystemExit as end:
            status = end.code
    return status, out.getvalue(), err.getvalue()


SMALL = """
_base_ = "{base}"
model = dict(architecture=dict(
    backbone=dict(embed_dims=16, num_heads=[1, 2, 4, 8]),
    neck=dict(in_channels=[16, 32, 64, 128])))
train_dataloader = dict(batch_size=4, dataset=dict(data_root="{data}"))
val_dataloader = dict(batch_size=4, dataset=dict(data_root="{data}"))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file="{data}/annotations/val.json")
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=2, val_interval=2)
baseline = dict(train_cfg=dict(type="EpochBasedTrainLoop", max_epochs=1, val_interval=1))
finetune = dict(train_cfg=dict(type="EpochBasedTrainLoop", max_epochs=1, val_interval=1))
randomness = dict(seed=0, deterministic=True)
default_hooks = dict(logger=dict(interval=1))
custom_hooks = [dict(type="rarts_mm.LagrangianHook", interval=1), dict(type="rarts_mm.ScoreHook")]
"""


@pytest.fixture(scope="session")
def shapes(tmp_path_factory) -> Path:
    """A data set of 24 + 8 generated images of 64 x 64 in COCO format."""
    from rarts_mm.datasets import make_shapes

    folder = tmp_path_factory.mktemp("data") / "shapes"
    make_shapes(folder, train=24, val=8, size=64)
    return folder


@pytest.fixture(scope="session")
def small_config(tmp_path_factory, shapes) -> Path:
    """The demo's search config, smaller still, on the small data."""
    path = tmp_path_factory.mktemp("config") / "small_search.py"
    path.write_text(SMALL.format(base=CONFIGS / "sidt_swin_micro_shapes.py", data=shapes))
    return path


@pytest.fixture(scope="session")
def search_run(tmp_path_factory, small_config) -> Path:
    """Work dir of a finished search of two epochs; do not change it, copy it."""
    work_dir = tmp_path_factory.mktemp("search")
    status, _, err = run_tool("train", small_config, "--work-dir", work_dir)
    assert status == 0, err
    return work_dir


@pytest.fixture
def search_copy(search_run, tmp_path) -> Path:
    """A copy of the finished search's folder that a test may change."""
    folder = tmp_path / "search"
    shutil.copytree(search_run, folder)
    (folder / "last_checkpoint").write_text(str(folder / "epoch_2.pth"))
    return folder
