"""Checkpoint files: written whole, broken ones recognised, left-overs removed."""

import errno
import itertools
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.fileio import get_file_backend
from mmengine.hooks import CheckpointHook

from rarts_mm.apis import command_line, training_config
from rarts_mm.engine import CheckpointError, checkpoint_to_resume, checkpoints
from rarts_mm.files import write_text
from tests import tiny
from tests.conftest import run_tool
from tests.engine.resuming import assert_same_search, load, run, search


def save(folder: Path, *names: str, last: str | None = None) -> None:
    """Small files as the Runner writes them; the number in the name is the iteration."""
    folder.mkdir(exist_ok=True)
    for name in names:
        number = int(name.partition("_")[2].partition(".")[0])
        iteration = number * (1 if name.startswith("iter") else 10)
        meta = dict(epoch=number, iter=iteration)
        torch.save(dict(meta=meta, state_dict=dict(w=torch.ones(100))), folder / name)
    if last is not None:
        (folder / "last_checkpoint").write_text(str(folder / last))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def flip(path: Path) -> None:
    """One bit of a weight: torch.load would not notice."""
    content = bytearray(path.read_bytes())
    at = content.index(torch.ones(4).numpy().tobytes())
    content[at] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def remove(path: Path) -> None:
    path.unlink()


def other(path: Path) -> None:
    torch.save([1, 2], path)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (truncate, "no whole file"),
        (flip, "checksum of its part .* is wrong"),
        (empty, "0 bytes that are no whole file"),
        (remove, "there is no such file"),
        (other, "it holds a list"),
    ],
)
def test_a_broken_file_is_named_and_the_one_before_it_taken(tmp_path, monkeypatch, spoil, reason):
    lines = []
    monkeypatch.setattr(checkpoints, "print_log", lambda line, **_: lines.append(line))
    save(
        tmp_path, "epoch_1.pth", "epoch_2.pth", "epoch_10.pth", "epoch_11.pth", last="epoch_10.pth"
    )
    (tmp_path / "best_acc_epoch_3.pth").write_bytes(b"")
    spoil(tmp_path / "epoch_10.pth")
    # epoch_11 is of an older run, which this one has not overwritten yet.
    assert checkpoint_to_resume(tmp_path) == str(tmp_path / "epoch_2.pth")
    assert f"{tmp_path / 'epoch_10.pth'} is broken" in lines[0]
    assert lines[1:] == [f"Taking {tmp_path / 'epoch_2.pth'} instead."]
    with pytest.raises(CheckpointError, match=f"epoch_10.pth cannot be resumed from: .*{reason}"):
        checkpoint_to_resume(tmp_path, tmp_path / "epoch_10.pth")
    for number in (1, 2):
        truncate(tmp_path / f"epoch_{number}.pth")
    with pytest.raises(CheckpointError, match=r"epoch_10\.pth: .*; .*epoch_2\.pth: .*epoch_1\.pth"):
        checkpoint_to_resume(tmp_path)


@pytest.mark.parametrize("name", [None, "", "\0\0\0\0"], ids=["missing", "empty", "zeros"])
def test_a_killed_run_may_leave_no_name_of_the_last_checkpoint(tmp_path, name):
    assert checkpoint_to_resume(tmp_path / "nothing") is None
    if name is not None:
        (tmp_path / "last_checkpoint").write_text(name)
    assert checkpoint_to_resume(tmp_path) is None
    save(tmp_path, "epoch_2.pth", "epoch_3.pth", "iter_9.pth", "iter_25.pth", "iter_41.pth")
    truncate(tmp_path / "iter_41.pth")
    assert checkpoint_to_resume(tmp_path) == str(tmp_path / "epoch_3.pth")
    save(tmp_path, "iter_31.pth")
    assert checkpoint_to_resume(tmp_path) == str(tmp_path / "iter_31.pth")


def test_a_folder_that_was_moved_and_files_elsewhere(tmp_path):
    save(tmp_path / "old", "epoch_1.pth", "epoch_2.pth", last="epoch_2.pth")
    (tmp_path / "old").rename(tmp_path / "new")
    assert checkpoint_to_resume(tmp_path / "new") == str(tmp_path / "new" / "epoch_2.pth")
    # A copy: it wins over the original that its last_checkpoint names, whole or not.
    save(tmp_path / "old", "epoch_1.pth", "epoch_2.pth")
    (tmp_path / "new" / "epoch_2.pth").rename(tmp_path / "new" / "epoch_3.pth")
    assert checkpoint_to_resume(tmp_path / "new") == str(tmp_path / "new" / "epoch_1.pth")
    (tmp_path / "new" / "epoch_3.pth").rename(tmp_path / "new" / "epoch_2.pth")
    assert checkpoint_to_resume(tmp_path / "new") == str(tmp_path / "new" / "epoch_2.pth")
    # CheckpointHook(out_dir=...)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "last_checkpoint").write_text(str(tmp_path / "new" / "epoch_2.pth"))
    truncate(tmp_path / "new" / "epoch_2.pth")
    assert checkpoint_to_resume(tmp_path / "logs") == str(tmp_path / "new" / "epoch_1.pth")
    assert checkpoint_to_resume(tmp_path, "s3://bucket/epoch_1.pth") == "s3://bucket/epoch_1.pth"


def test_the_backend_writes_whole_files_or_none(tmp_path, monkeypatch):
    backend = get_file_backend(backend_args=dict(backend="rarts_mm.atomic"))
    target = tmp_path / "deep" / "epoch_1.pth"
    backend.put(b"old", target)
    assert target.read_bytes() == b"old"
    seen = []

    def full_disk(handle: int) -> None:
        (name,) = (p.name for p in target.parent.iterdir() if p != target)
        seen.append((name, target.read_bytes()))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        backend.put(b"newer", target)
    assert seen[0][1] == target.read_bytes() == b"old"
    assert [p.name for p in target.parent.iterdir()] == ["epoch_1.pth"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_said_with_the_files_name(tmp_path, monkeypatch, capsys, number):
    """The file before it, and its name in last_checkpoint, stay."""
    runner = search(tmp_path, epochs=3)
    fsync, calls = os.fsync, []

    def fills_up(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(number, os.strerror(number))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", fills_up)
    with pytest.raises(SystemExit) as end:
        command_line.run(runner.train)
    assert end.value.code == 2
    lost = tmp_path / "epoch_2.pth"
    error = f"error: {lost}: {os.strerror(number)}; free some"
    assert capsys.readouterr().err.splitlines()[-1].startswith(error)
    assert [p.name for p in tmp_path.glob("*.pth")] == ["epoch_1.pth"]
    assert not list(tmp_path.glob(".*"))
    assert checkpoint_to_resume(tmp_path) == str(tmp_path / "epoch_1.pth")
    assert (tmp_path / "last_checkpoint").read_text() == str(tmp_path / "epoch_1.pth")


def test_other_errors_of_the_system_stay_what_they_are(tmp_path, monkeypatch):
    def broken(path, text) -> None:
        raise OSError(errno.ENOTCONN, "not connected")

    monkeypatch.setattr(Path, "write_text", broken)
    with pytest.raises(OSError, match="not connected") as error:
        write_text(tmp_path / "x.txt", "text")
    assert error.value.filename is None
    assert not list(tmp_path.iterdir())


def test_checkpoints_that_leave_out_what_resuming_needs_are_warned_of(tmp_path):
    run(tmp_path / "whole", epochs=1)
    assert "default_hooks.checkpoint.save_" not in tiny.log_text(tmp_path / "whole")
    bare = dict(save_optimizer=False, save_param_scheduler=False)
    run(tmp_path / "bare", epochs=1, checkpoint=bare)
    text = tiny.log_text(tmp_path / "bare")
    for name, what in (
        ("save_optimizer", r"the optimisers' states \(moments, learning rates, loss scale\)"),
        ("save_param_scheduler", "the schedules"),
    ):
        line = (
            rf"WARNING - default_hooks\.checkpoint\.{name}=False: .*everything but {what}, .* anew"
        )
        assert len(re.findall(line, text)) == 1
        assert text.index(f"checkpoint.{name}=False: ") < text.index("Epoch(train)")
    assert {"optimizer", "param_schedulers"}.isdisjoint(load(tmp_path / "bare" / "epoch_1.pth"))
    # Nothing to save, nothing to warn of.
    schedulers = dict(auxiliary=[], primary=[], alpha=[])
    run(tmp_path / "none", epochs=1, checkpoint=bare, param_scheduler=schedulers)
    text = tiny.log_text(tmp_path / "none")
    assert "checkpoint.save_optimizer=False: " in text
    assert "checkpoint.save_param_scheduler=False: " not in text


def test_a_search_writes_whole_files_keeps_two_and_removes_left_overs(tmp_path):
    """What a killed run was writing goes, the user's own hidden files stay."""
    left, own = tmp_path / ".epoch_1-a1b2c3_x.pth", tmp_path / ".mine.pth"
    left.write_bytes(b"half")
    own.write_bytes(b"mine")
    runner = run(tmp_path, epochs=3, checkpoint=dict(max_keep_ckpts=1))
    assert sorted(p.name for p in tmp_path.glob("epoch*")) == ["epoch_2.pth", "epoch_3.pth"]
    assert not left.exists()
    assert own.exists()
    (hook,) = (h for h in runner.hooks if isinstance(h, CheckpointHook))
    assert hook.backend_args == dict(backend="rarts_mm.atomic")


def test_a_search_goes_on_from_the_file_before_the_broken_one(tmp_path):
    run(tmp_path / "whole", epochs=3)
    run(tmp_path / "parts", epochs=2)
    flip_state(tmp_path / "parts" / "epoch_2.pth")
    resumed = run(tmp_path / "parts", epochs=3, resume=True)
    log = Path(resumed.log_dir) / f"{resumed.timestamp}.log"
    assert "epoch_2.pth is broken (the checksum" in log.read_text()
    assert "resumed epoch: 1, iter: 3" in log.read_text()
    for name in ("epoch_2.pth", "epoch_3.pth"):
        assert_same_search(tmp_path / "parts" / name, tmp_path / "whole" / name)


class Rising(BaseMetric):
    """Every validation is better than the one before."""

    values = itertools.count(1)

    def process(self, data_batch, data_samples) -> None:
        self.results.append(None)

    def compute_metrics(self, results) -> dict:
        return dict(value=float(next(self.values)))


def test_a_resumed_copy_leaves_the_originals_best_file_alone(tmp_path):
    """CheckpointHook remembers its full path, and deletes it when a better one comes."""
    settings = dict(
        val_dataloader=tiny.loader(number=4)
        | dict(sampler=dict(type="DefaultSampler", shuffle=False)),
        val_cfg=dict(),
        checkpoint=dict(save_best="value", rule="greater"),
    )
    original, copy = tmp_path / "original", tmp_path / "copy"
    run(original, epochs=1, val_evaluator=[Rising()], **settings)
    shutil.copytree(original, copy)
    before = {path: path.read_bytes() for path in original.glob("*.pth")}
    run(copy, epochs=2, resume=True, val_evaluator=[Rising()], **settings)
    assert {path: path.read_bytes() for path in original.glob("*.pth")} == before
    assert original / "best_value_epoch_1.pth" in before
    assert [path.name for path in copy.glob("best*")] == ["best_value_epoch_2.pth"]


def flip_state(path: Path) -> None:
    """One bit of alpha."""
    state = load(path)["state_dict"]
    weight = next(value for name, value in state.items() if name.startswith("alpha."))
    content = bytearray(path.read_bytes())
    content[content.index(weight.numpy().tobytes())] ^= 1
    path.write_bytes(content)


def test_the_command_line_refuses_a_broken_file(small_config, search_copy):
    broken = search_copy / "epoch_2.pth"
    flip_state(broken)
    before = broken.read_bytes()
    status, _, err = run_tool("train", small_config, "--work-dir", search_copy, "--resume", broken)
    assert status == 2
    assert f"error: checkpoint {broken} cannot be resumed from: the checksum of its part" in err
    assert broken.read_bytes() == before


def test_a_plain_training_through_the_command_line(tmp_path):
    """Two whole files are kept, and the broken one is passed over."""
    config = tiny.plain_config(tmp_path / "plain.py")
    work_dir = tmp_path / "run"
    assert run_tool("train", config, "--work-dir", work_dir)[0] == 0
    assert sorted(p.name for p in work_dir.glob("epoch*")) == ["epoch_1.pth", "epoch_2.pth"]
    truncate(work_dir / "epoch_2.pth")
    options = ("--work-dir", work_dir, "--resume", "--cfg-options", "train_cfg.max_epochs=3")
    status, _, err = run_tool("train", config, *options)
    assert status == 0, err
    logs = sorted(work_dir.glob("*/*.log"))
    text = logs[-1].read_text()
    assert "epoch_2.pth is broken" in text
    assert "resumed epoch: 1, iter: 2" in text
    assert sorted(p.name for p in work_dir.glob("epoch*")) == ["epoch_2.pth", "epoch_3.pth"]
    for path in work_dir.glob("epoch*"):
        truncate(path)
    status, _, err = run_tool("train", config, "--work-dir", work_dir, "--resume")
    assert status == 2
    assert "no checkpoint can be resumed from" in err


def test_resuming_before_anything_was_saved_is_starting(small_config, tmp_path, capsys):
    """From what the config starts from, which the first epoch's end may be hours away from."""
    pretrained = tmp_path / "pretrained.pth"
    torch.save(dict(state_dict={}), pretrained)
    work_dir = tmp_path / "run"
    options = dict(load_from=str(pretrained))
    for marker in (None, ""):
        if marker is not None:
            work_dir.mkdir()
            (work_dir / "last_checkpoint").write_text(marker)
        cfg = training_config(small_config, str(work_dir), resume="auto", options=options)
        assert (cfg.resume, cfg.load_from) == (False, str(pretrained))
        assert f"no checkpoint yet; starting from load_from={pretrained}" in capsys.readouterr().out
    save(work_dir, "epoch_1.pth")
    cfg = training_config(small_config, str(work_dir), resume="auto", options=options)
    assert (cfg.resume, cfg.load_from) == (True, None)
