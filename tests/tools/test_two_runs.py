"""Two trainings into one work dir, for real."""

import os
import subprocess
import sys
import time

import pytest

from rarts_mm.locks import LOCK, refuse_if_locked
from tests.conftest import ROOT, run_tool
from tests.holding import kill
from tests.tools.test_bad_input import files_under


@pytest.mark.slow
def test_the_second_run_is_refused_until_the_first_is_killed(small_config, tmp_path):
    """Whose data workers may live on for a while."""
    work_dir = tmp_path / "run"
    log = (tmp_path / "log").open("w")
    first = subprocess.Popen(
        [
            *(sys.executable, "tools/train.py", str(small_config), "--work-dir", str(work_dir)),
            *("--cfg-options", "train_dataloader.num_workers=2", "train_cfg.max_epochs=500"),
            "train_dataloader.persistent_workers=True",
        ],
        cwd=ROOT,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        stdout=log,
        stderr=log,
    )
    try:
        while not any(work_dir.glob("epoch_*.pth")):
            assert first.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.2)
        for options in ((), ("--resume",)):
            status, _, err = run_tool("train", small_config, "--work-dir", work_dir, *options)
            assert status == 2, err
            assert f"error: {work_dir} is in use by process {first.pid} on host" in err
            assert first.poll() is None
    finally:
        kill(first)
    refuse_if_locked(work_dir)
    assert (work_dir / LOCK).exists()
    before = files_under(work_dir)
    status, _, err = run_tool("train", small_config, "--work-dir", work_dir)
    assert status == 2
    assert "holds another run" in err
    assert files_under(work_dir) == before
