"""A search in two processes is the search in one process with the whole batches."""

import copy
import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rarts_mm.search import AUXILIARY, PRIMARY
from tests import tiny
from tests.cells import searches
from tests.engine import distributed_search, resuming

ROOT = Path(__file__).parents[2]


def torchrun(*arguments: object) -> str:
    """Run a Python file in two processes; return what they print."""
    cleared = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}
    env = {key: value for key, value in os.environ.items() if key not in cleared}
    # The test is of CPU processes, also on a machine with GPUs.
    env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*launcher, *map(str, arguments)]
    with subprocess.Popen(
        command, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as agent:
        try:
            out, err = agent.communicate(timeout=500)
        finally:
            # Killed, it could not end its processes, which are in sessions of their own.
            if agent.poll() is None:
                agent.terminate()
    assert agent.returncode == 0, out[-5000:] + err[-5000:]
    return out + err


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    """Folder with what two processes wrote."""
    folder = tmp_path_factory.mktemp("two")
    torchrun(ROOT / "tests" / "engine" / "distributed_search.py", folder, "widths")
    return folder


@pytest.fixture(scope="module")
def two_of_cells(tmp_path_factory) -> Path:
    """The same of searches of cells."""
    folder = tmp_path_factory.mktemp("two-of-cells")
    torchrun(ROOT / "tests" / "engine" / "distributed_search.py", folder, "cells")
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


@pytest.mark.parametrize(("network", "name"), distributed_search.CASES)
def test_two_processes_take_the_steps_of_one(two, network, name):
    """Gradients are averaged before clipping and coupling, also those of parts a rank does not use.

    With synchronised batch norms the batch is the one of both processes, for the weights' gradients,
    alpha's and the second derivatives.
    """
    alone = distributed_search.train(0, 1, network, name)
    ranks = [rank[network, name] for rank in loaded(two, "steps")]
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


@pytest.mark.slow
@pytest.mark.parametrize("synchronised", [False, True])
@pytest.mark.parametrize("space", searches.SPACES)
def test_two_processes_search_a_topology_as_one(two_of_cells, space, synchronised):
    alone = distributed_search.train_cells(0, 1, space, synchronised)
    first, second = (rank[space, synchronised] for rank in loaded(two_of_cells, "cells"))
    assert_identical(first, second)
    found, wanted = tensors(first), tensors(alone)
    assert found.keys() == wanted.keys()
    assert any(key.startswith("/model/alpha") for key in wanted)
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", distributed_search.NORMS)
def test_synchronised_norms_are_one_norm_of_all_images(two, name):
    """Also where the processes have different numbers of images, or one has none."""
    alone = distributed_search.normalise(0, 1, name)
    ranks = [rank[name] for rank in loaded(two, "norms")]
    close = functools.partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)
    for key, value in alone["images"].items():
        close(torch.cat([rank["images"][key] for rank in ranks]), value)
    for key, value in alone["sums"].items():
        close(ranks[0]["sums"][key] + ranks[1]["sums"][key], value)
    for rank in ranks:
        close(dict(rank["state"]), dict(alone["state"]))


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


def test_a_resumed_search_of_two_processes_is_the_uninterrupted_one(two):
    logs = [log.read_text() for log in (two / "parts").glob("*/*.log")]
    assert any("resumed epoch: 0, iter: 2" in log for log in logs)
    resuming.assert_same_search(two / "parts" / "iter_6.pth", two / "whole" / "iter_6.pth")
    first, second = loaded(two, "resumed")
    assert any(key.endswith("running_mean") for key in first["whole"])
    # Checkpoints hold the first process' statistics, which are everybody's.
    for rank in (first, second):
        assert_identical(dict(rank["parts"]), dict(rank["whole"]))
    assert_identical(dict(first["whole"]), dict(second["whole"]))


def test_one_process_does_not_go_on_with_a_search_of_two(two, tmp_path):
    checkpoint = str(two / "whole" / "iter_6.pth")
    resumed = dict(load_from=checkpoint, resume=True, epochs=3, **distributed_search.resumable())
    with pytest.raises(ValueError, match=r"world_size was 2, is 1.*strict_resume=False"):
        resuming.run(tmp_path / "refused", **copy.deepcopy(resumed))
    runner = resuming.run(tmp_path / "on", loop=dict(strict_resume=False), **resumed)
    # Five steps of an epoch in one process, three in each of two.
    assert runner.iter == 15
    assert "going on at the start of epoch 3" in tiny.log_text(tmp_path / "on")


SAVER = """
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class RankSaver(Hook):
    priority = "LOWEST"

    def __init__(self, folder):
        self.folder = folder

    def after_train(self, runner):
        state = dict(model=runner.model.module.state_dict(), iterations=runner.iter)
        torch.save(state, f"{self.folder}/rank{get_rank()}.pth")
"""

# The second convolution of one head sees the regions of a process only, whose number differs.
CONFIG = """
import sys
sys.path.insert(0, {folder!r})
_base_ = {base!r}
custom_imports = dict(imports=["rarts_mm", "rank_saver"], allow_failed_imports=False)
custom_hooks = [dict(type="RankSaver", folder={folder!r})]
train_cfg = dict(max_epochs=1, val_interval=1)
norm = dict(type="SyncBN", requires_grad=True)
neck = dict(in_channels=[16, 32, 64, 128], norm_cfg=norm)
head = dict(num_shared_convs=1, conv_out_channels=16, norm_cfg=norm)
# After so few steps there may be no confident box, and without boxes there are no metrics.
all_boxes = dict(rcnn=dict(score_thr=0.0))
"""
SEARCH = """
heads = _base_.model.architecture.roi_head.bbox_head
boxes = dict(bbox_head=[{**h, **head} for h in heads])
model = dict(architecture=dict(neck=neck, roi_head=boxes, test_cfg=all_boxes))
"""
PLAIN = """
base = _base_.model.architecture
model = dict(
    _delete_=True,
    **{k: v for k, v in base.items() if k not in ("neck", "roi_head", "test_cfg")},
    neck={**base.neck, **neck},
    roi_head={**base.roi_head, "bbox_head": [{**h, **head} for h in base.roi_head.bbox_head]},
    test_cfg={**base.test_cfg, "rcnn": {**base.test_cfg.rcnn, **all_boxes["rcnn"]}},
)
train_cfg = dict(_delete_=True, type="EpochBasedTrainLoop", max_epochs=1, val_interval=1)
optim_wrapper = dict(_delete_=True, **_base_.optim_wrapper.weights)
model_wrapper_cfg = None
"""


@pytest.fixture
def two_trainings(small_config, tmp_path):
    """Trains the micro detector with synchronised batch norms by the tool in two processes."""

    def train(model: str) -> tuple[Path, str]:
        (tmp_path / "rank_saver.py").write_text(SAVER)
        config = tmp_path / "two.py"
        text = CONFIG.format(folder=str(tmp_path), base=str(small_config))
        config.write_text(text + model)
        arguments = ("--work-dir", tmp_path / "run", "--launcher", "pytorch")
        return config, torchrun(ROOT / "tools" / "train.py", config, *arguments)

    return train


@pytest.mark.slow
def test_the_training_tool_searches_a_detector(two_trainings, tmp_path):
    """One epoch on the CPU, with synchronised norms of maps and of as many regions as a rank has."""
    _, text = two_trainings(SEARCH)
    first, second = loaded(tmp_path, "rank")
    # Halves of 12 images, two processes with batches of 4.
    assert first["iterations"] == second["iterations"] == 2
    assert_identical(dict(first["model"]), dict(second["model"]))
    assert any((v != 1).any() for k, v in first["model"].items() if k.startswith("alpha."))
    norms = [k for k in first["model"] if k.endswith("bbox_head.2.shared_convs.0.bn.running_mean")]
    assert len(norms) == 2, "one in each network"
    assert all(first["model"][k].any() for k in norms)
    assert (tmp_path / "run" / "epoch_1.pth").is_file()
    assert "coco/bbox_mAP" in text


@pytest.mark.slow
def test_the_tools_train_and_test_a_plain_detector(two_trainings, tmp_path):
    """Fine-tuning and testing in several processes without a GPU, which MMEngine alone does not do."""
    config, text = two_trainings(PLAIN)
    first, second = loaded(tmp_path, "rank")
    # 24 images, two processes with batches of 4.
    assert first["iterations"] == second["iterations"] == 3
    assert_identical(dict(first["model"]), dict(second["model"]))
    assert "coco/bbox_mAP" in text
    checkpoint = tmp_path / "run" / "epoch_1.pth"
    arguments = ("--work-dir", tmp_path / "test", "--launcher", "pytorch")
    assert "coco/bbox_mAP" in torchrun(ROOT / "tools" / "test.py", config, checkpoint, *arguments)
