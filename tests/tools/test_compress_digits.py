"""tools/compress.py with a classifier of grey images, every stage of it, through the command line."""

import json
import subprocess
import sys

import pytest
import torch

from rarts_mm.datasets import make_digits
from tests.conftest import CONFIGS


@pytest.fixture
def compress(tmp_path):
    """Runs the command on digits in a folder of the test's, an epoch for each training."""
    make_digits(tmp_path / "digits")
    options = [
        "train_cfg.max_epochs=1",
        "train_cfg.val_interval=1",
        "train_dataloader.batch_size=250",
    ]
    options += [f"finetune.{option}" for option in options[:2]]
    options += [
        f"{p}_dataloader.dataset.data_root={tmp_path / 'digits'}" for p in ("train", "val", "test")
    ]

    def run(*arguments: object) -> subprocess.CompletedProcess:
        command = [sys.executable, CONFIGS.parent / "tools" / "compress.py"]
        command += [CONFIGS / "sidt_swin_micro_digits.py", *arguments]
        command += ["--work-dir", tmp_path / "work", "--cfg-options", *options]
        return subprocess.run(map(str, command), capture_output=True, text=True, timeout=300)

    return run


@pytest.mark.slow
def test_the_chain_on_digits(compress, tmp_path):
    run = compress("--flops", "0.7")
    assert run.returncode == 0, run.stderr[-3000:]
    rows = {r["model"]: r for r in json.loads((tmp_path / "work/results.json").read_text())["rows"]}
    base = rows.pop("baseline")
    assert rows
    for name, row in rows.items():
        assert row["FLOPs"] < base["FLOPs"], name
        assert row["latency"] > 0, name
        assert 0 <= row["top-1 %"] <= 100, name
    text = (tmp_path / "work/results.md").read_text()
    assert "| baseline |" in text
    # 18,720 parameters.
    assert "18.72 K" in text


@pytest.mark.slow
def test_a_checkpoint_of_a_search_is_no_baseline(compress, tmp_path):
    """One message, as of any other bad input, and before the first training."""
    state = {"alpha.x": torch.ones(2), "auxiliary.head.fc.bias": torch.ones(10)}
    torch.save(dict(state_dict=state), tmp_path / "search.pth")
    run = compress("--ratio", "0.4", "--checkpoint", tmp_path / "search.pth")
    assert run.returncode == 2
    assert run.stderr.count("is one of a search") == 1
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "work" / "search").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "searches"),
    [
        ((), 2),
        # Nothing looks at scores: only the first pruning's search is run, for all targets.
        (("--criterion", "taylor", "--images", 64), 1),
    ],
    ids=["scores", "taylor"],
)
def test_a_target_is_reached_in_steps(compress, tmp_path, how, searches):
    arguments = ("--params", "0.6", "--steps", 2, "--control", *how)
    run = compress(*arguments)
    assert run.returncode == 0, run.stderr[-3000:]
    work = tmp_path / "work"
    (folder,) = work.glob("pruned_params_60*_2steps")
    first, last = (
        json.loads((folder / name / "widths.json").read_text())["plan"]
        for name in ("step1", "last")
    )
    # What is left of the whole after one and after both: the same share each.
    whole = first["whole"]
    assert first["budget"] == int(whole * 0.6**0.5)
    assert last["budget"] == int(whole * 0.6)
    assert last["whole"] == first["counted"]
    assert last["counted"] <= last["budget"]
    assert len([*work.glob("search"), *folder.glob("search2")]) == searches
    rows = json.loads((work / "results.json").read_text())
    names = [row["model"] for row in rows["rows"]]
    assert any(name.endswith("in 2 steps, fine-tuned") for name in names)
    assert "the trainings of one target" in rows["notes"][1]
    # Done is done.
    again = compress(*arguments)
    assert again.returncode == 0
    assert json.loads((work / "results.json").read_text())["rows"] == rows["rows"]


@pytest.mark.slow
def test_steps_that_make_no_sense(compress):
    for arguments, words in (
        (("--ratio", "0.4", "--steps", 0), "at least one pruning is needed"),
        (("--ratio", "auto", "--steps", 2), "leave --steps out"),
        (("--max-drop", "1", "--steps", 2), "divides what is asked for"),
    ):
        run = compress(*arguments)
        assert run.returncode == 2, run.stderr
        assert words in run.stderr
