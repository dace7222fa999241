"""tools/compress.py with a classifier of grey images, every stage of it, through the command line."""

import json
import subprocess
import sys

from rarts_mm.datasets import make_digits
from tests.conftest import CONFIGS


def test_the_chain_on_digits(tmp_path):
    make_digits(tmp_path / "digits")
    short = [
        "train_cfg.max_epochs=1",
        "train_cfg.val_interval=1",
        "train_dataloader.batch_size=250",
    ]
    short += [f"finetune.{option}" for option in short[:2]]
    data = [
        f"{p}_dataloader.dataset.data_root={tmp_path / 'digits'}" for p in ("train", "val", "test")
    ]
    config = CONFIGS / "sidt_swin_micro_digits.py"
    command = [sys.executable, CONFIGS.parent / "tools" / "compress.py", config, "--flops", "0.7"]
    command += ["--work-dir", tmp_path / "work", "--cfg-options", *short, *data]
    run = subprocess.run(map(str, command), capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-3000:]
    rows = {r["model"]: r for r in json.loads((tmp_path / "work/results.json").read_text())["rows"]}
    base = rows.pop("baseline")
    assert rows
    for name, row in rows.items():
        assert row["FLOPs"] < base["FLOPs"], name
        assert row["latency"] > 0, name
        assert 0 <= row["top-1 %"] <= 100, name
    assert "| baseline |" in (tmp_path / "work/results.md").read_text()
