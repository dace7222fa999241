"""What `make demo-cells` runs, through the command lines: from a search on digits to a tested network."""

import json

import pytest

from rarts_mm.cells.genotype import Genotype
from rarts_mm.datasets import make_digits
from tests.conftest import CONFIGS, run_tool

ROOT = CONFIGS.parent


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "digits"
    make_digits(folder)
    return folder


@pytest.mark.slow
def test_from_the_search_to_the_test(digits, tmp_path):
    """The Makefile's commands in their order, shorter; and the last checkpoint is where it looks."""
    makefile = (ROOT / "Makefile").read_text()
    work = tmp_path / "cells"
    data = [f"{p}_dataloader.dataset.data_root={digits}" for p in ("train", "val", "test")]
    short = [
        "train_cfg.max_epochs=1",
        "train_cfg.val_interval=1",
        "train_dataloader.batch_size=250",
    ]
    short += ["default_hooks.checkpoint.interval=1"]
    commands = {
        "search": ("train", CONFIGS / "rarts_darts_digits.py", "--work-dir", work),
        "derive": ("derive", work, "--network", CONFIGS / "darts_retrain_digits.py"),
        "retrain": ("train", work / "derived/retrain.py"),
    }
    for command, *arguments in commands.values():
        part = f"tools/{command}.py {arguments[0]}".replace(f"{ROOT}/", "")
        assert part.replace(str(work), "$(CELLS)") in makefile
    search, derive, retrain = commands.values()
    status, _, err = run_tool(*search, "--cfg-options", *data, *short)
    assert status == 0, err
    status, out, err = run_tool(*derive, "--out", work / "derived", "--cfg-options", *data)
    assert status == 0, err
    genotype = Genotype.parse((work / "derived/genotype.json").read_text())
    assert genotype.text() in out
    assert len(genotype.nodes("normal")) == 2
    assert (work / "derived/cells.png").is_file()
    status, _, err = run_tool(*retrain, "--cfg-options", *short)
    assert status == 0, err

    # The folder in the checkpoint's place, as the Makefile names it.
    assert "tools/test.py $(CELLS)/derived/retrain.py $(CELLS)/derived/retrain\n" in makefile
    status, _, err = run_tool(
        "test",
        work / "derived/retrain.py",
        work / "derived/retrain",
        "--work-dir",
        tmp_path / "test",
    )
    assert status == 0, err
    (file,) = (tmp_path / "test").glob("*/*.json")
    accuracy = json.loads(file.read_text())["accuracy/top1"]
    # Of 540 test images.
    assert accuracy * 5.4 == pytest.approx(round(accuracy * 5.4), abs=1e-3)
