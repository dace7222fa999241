"""When one of several processes fails, all end and one message says why."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """
import torch
from rarts_mm.apis import command_line
from rarts_mm.apis.errors import UsageError

def main():
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    for step in range(5):
        if step == 2 and rank == 1:
            raise UsageError("image 7 is broken; remove it")
        torch.distributed.all_reduce(torch.ones(3))

command_line.run(main)
"""


@pytest.mark.slow
def test_the_one_that_failed_speaks_and_all_end(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    cleared = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}
    env = {k: v for k, v in os.environ.items() if k not in cleared}
    env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node=2",
            program,
        ],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode != 0
    assert run.stderr.count("error on rank 1: image 7 is broken; remove it") == 1
    # The other process has nothing to say, and the launcher names the one that failed.
    assert "[rank0]" not in run.stderr
    assert "on rank 0" not in run.stderr
    cause = run.stderr.split("Root Cause")[1]
    assert "rank      : 1" in cause
    assert "image 7 is broken" in cause


@pytest.mark.slow
def test_no_process_is_lost_at_its_end(tmp_path):
    """On a busy machine a thread may outlive the work; it must not take its process down."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        runs = subprocess.run(
            [sys.executable, ROOT / "tests" / "engine" / "ranks_that_end.py", "30", tmp_path],
            env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            timeout=590,
            check=True,
        )
    finally:
        for process in busy:
            process.kill()
            process.wait()
    found = json.loads(runs.stdout.splitlines()[-1])
    assert found == dict(train=15, test=15, failed=0, terminated=0)
