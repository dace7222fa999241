"""A search in two processes is the search in one process with the whole batches."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rarts_mm.search import AUXILIARY, PRIMARY
from tests.cells import searches
from tests.engine import distributed_search

ROOT = Path(__file__).parents[2]


def torchrun(*arguments: object) -> str:
    """Run a Python file in two processes; return what they print."""
    cleared = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}
    env = {key: value for key, value in os.environ.items() if key not in cleared}
    # The test is of CPU processes, also on a machine with GPUs.
    env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    run = subprocess.run(
        [*launcher, *map(str, arguments)],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-5000:]
    return run.stdout + run.stderr


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    """Folder with what two processes wrote."""
    folder = tmp_path_factory.mktemp("two")
    torchrun(ROOT / "tests" / "engine" / "distributed_search.py", folder)
    return folder


def loaded(folder: Path, name: str) -> list[dict]:
    return [torch.load(folder / f"{name}{rank}.pth", weights_only=False) for rank in (0, 1)]


def tensors(state: object, path: str = "") -> dict[str, torch.Tensor]:
    """The tensors of nested states, by where they are."""
    if isinstance(state, torch.Tensor):
        return {path: state}
    if isinstance(state, dict):
        items = state.items()
    elif isinstance(state, list | tuple):
        items = enumerate(state)
    else:
        return {}
    return {k: v for key, value in items for k, v in tensors(value, f"{path}/{key}").items()}


def assert_identical(one: object, other: object) -> None:
    one, other = tensors(one), tensors(other)
    assert one.keys() == other.keys()
    assert one
    assert [key for key, value in one.items() if not torch.equal(value, other[key])] == []


@pytest.mark.parametrize("name", distributed_search.ALTERNATIONS)
def test_two_processes_take_the_steps_of_one(two, name):
    """Gradients are averaged before clipping and coupling, also those of parts a rank does not use."""
    alone = distributed_search.train(0, 1, name)
    ranks = [rank[name] for rank in loaded(two, "steps")]
    for part in ("model", "optimizer"):
        assert_identical(ranks[0][part], ranks[1][part])
        found, wanted = tensors(ranks[0][part]), tensors(alone[part])
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            torch.testing.assert_close(found[key], value, rtol=1e-9, atol=1e-9)
    for key, value in alone["residuals"].items():
        assert ranks[0]["residuals"][key] == ranks[1]["residuals"][key]
        assert ranks[0]["residuals"][key] == pytest.approx(value, rel=1e-7)
    for step, log in enumerate(alone["logs"]):
        for key, value in log.items():
            mean = sum(rank["logs"][step][key] for rank in ranks) / 2
            assert mean == pytest.approx(value, rel=1e-9), (step, key)
        assert ranks[0]["logs"][step]["loss"] != ranks[1]["logs"][step]["loss"]


@pytest.mark.parametrize("space", searches.SPACES)
def test_two_processes_search_a_topology_as_one(two, space):
    alone = distributed_search.train_cells(0, 1, space)
    first, second = (rank[space] for rank in loaded(two, "cells"))
    assert_identical(first, second)
    found, wanted = tensors(first), tensors(alone)
    assert found.keys() == wanted.keys()
    assert any(key.startswith("/model/alpha") for key in wanted)
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, rtol=1e-9, atol=1e-9)


def test_the_runner_keeps_the_processes_equal_and_their_images_apart(two):
    first, second = loaded(two, "run")
    assert_identical(first["start"], second["start"])
    assert_identical(first["model"], second["model"])
    assert_identical(first["optimizer"], second["optimizer"])
    assert len(first["steps"]) == len(second["steps"]) == 3
    seen = {
        half: [[n for step in rank["steps"] for n in step[half]] for rank in (first, second)]
        for half in (AUXILIARY, PRIMARY)
    }
    for one, other in seen.values():
        assert len(one) == len(other) == 5
        assert len({*one, *other}) == 10, "every image of a half once"
    assert not {*seen[AUXILIARY][0], *seen[AUXILIARY][1]} & {*seen[PRIMARY][0], *seen[PRIMARY][1]}
    saved = torch.load(two / "run" / "epoch_1.pth", weights_only=False)
    assert_identical(dict(saved["state_dict"]), dict(first["model"]))


SAVER = """
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class RankSaver(Hook):
    def __init__(self, folder):
        self.folder = folder

    def after_train(self, runner):
        state = dict(model=runner.model.module.state_dict(), iterations=runner.iter)
        torch.save(state, f"{self.folder}/rank{get_rank()}.pth")
"""


@pytest.mark.slow
def test_the_training_tool_under_torchrun(small_config, tmp_path):
    """The micro detector, one epoch in two processes on the CPU."""
    (tmp_path / "rank_saver.py").write_text(SAVER)
    config = tmp_path / "two.py"
    config.write_text(
        f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\n"
        f"_base_ = {str(small_config)!r}\n"
        "custom_imports = dict(imports=['rarts_mm', 'rank_saver'], allow_failed_imports=False)\n"
        f"custom_hooks = [dict(type='RankSaver', folder={str(tmp_path)!r})]\n"
        "train_cfg = dict(max_epochs=1, val_interval=1)\n"
    )
    text = torchrun(
        ROOT / "tools" / "train.py",
        config,
        *("--work-dir", tmp_path / "run", "--launcher", "pytorch"),
    )
    first, second = loaded(tmp_path, "rank")
    # Halves of 12 images, two processes with batches of 4.
    assert first["iterations"] == second["iterations"] == 2
    assert_identical(dict(first["model"]), dict(second["model"]))
    assert any((v != 1).any() for k, v in first["model"].items() if k.startswith("alpha."))
    assert (tmp_path / "run" / "epoch_1.pth").is_file()
    assert "coco/bbox_mAP" in text
