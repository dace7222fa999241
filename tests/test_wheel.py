"""The package as a wheel, in a folder with nothing else in it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MINE = """
_base_ = "rarts_mm::configs/rarts_preresnet20_digits.py"
train_cfg = dict(max_epochs=1, val_interval=1)
train_dataloader = dict(batch_size=200)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    source = folder / "source"
    # Not in the checkout, where building leaves files.
    subprocess.run(
        ["git", "clone", "-q", "--no-hardlinks", ROOT, source], check=True, capture_output=True
    )
    subprocess.run(
        [*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source], check=True
    )
    (wheel,) = folder.glob("*.whl")
    site = folder / "site"
    subprocess.run([*pip, "install", "-q", "--no-deps", "--target", site, wheel], check=True)
    return site


@pytest.mark.slow
def test_search_prune_and_test_in_an_empty_folder(installed, tmp_path):
    def command(*arguments: object) -> str:
        done = subprocess.run(
            [installed / "bin" / "rarts-mm", *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    assert "compress" in command("--help")
    command("make-digits")
    (tmp_path / "mine.py").write_text(MINE)
    command("train", "mine.py", "--work-dir", "search")
    assert (tmp_path / "search" / "epoch_1.pth").is_file()
    said = command("prune", "search/mine.py", "search/epoch_1.pth", "--ratio", "0.3")
    # What there is to type here.
    assert "next: rarts-mm train" in said
    pruned = tmp_path / "search" / "pruned_30"
    said = command("test", pruned / "pruned.py", pruned / "pruned.pth")
    assert "accuracy/top1" in said
    # And a config of a library's, by its own name.
    units = command("prune", "--list", "rarts_mm::rarts_mobilenet-v2_digits.py")
    assert "score" in units


@pytest.mark.slow
def test_it_has_all_configs_and_its_types(installed):
    inside = installed / "rarts_mm"
    assert (inside / "py.typed").is_file()
    shipped = inside / ".mim" / "configs" / "configs"
    names = {path.relative_to(ROOT / "configs") for path in (ROOT / "configs").rglob("*.py")}
    assert names == {path.relative_to(shipped) for path in shipped.rglob("*.py")}
    (record,) = installed.glob("rarts_mm-*.dist-info/METADATA")
    assert "onedl-mmengine" in record.read_text()
    assert json.dumps(str(ROOT)) not in record.read_text()
