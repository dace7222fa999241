"""The shell launchers: what they start, with which arguments, and how they refuse."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def launch(tmp_path):
    """Run a launcher with recorders in the place of python and srun; returns (exit code, argv)."""
    for name in ("python", "srun"):
        recorder = tmp_path / name
        recorder.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$PYTHONPATH" "$0" "$@"\n')
        recorder.chmod(0o755)

    def run(script, *arguments, **environment):
        cleared = {"PYTHON", "PORT", "NNODES", "NODE_RANK", "MASTER_ADDR", "GPUS", "PYTHONPATH"}
        env = {key: value for key, value in os.environ.items() if key not in cleared}
        env |= {"PATH": f"{tmp_path}:{env['PATH']}", **environment}
        result = subprocess.run(
            ["bash", TOOLS / script, *arguments],
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        return result.returncode, result.stdout.splitlines(), result.stderr

    return run


def test_training_starts_one_process_per_gpu(launch):
    code, (path, program, *argv), _ = launch(
        "dist_train.sh", "configs/a b.py", "8", "--cfg-options", "x='1 2'"
    )
    assert code == 0
    assert program.endswith("/python")
    assert Path(path).resolve() == TOOLS.parent, "works without an installed package"
    assert argv == [
        "-m",
        "torch.distributed.run",
        "--nnodes=1",
        "--nproc_per_node=8",
        "--standalone",
        str(TOOLS / "train.py"),
        "configs/a b.py",
        "--launcher",
        "pytorch",
        "--cfg-options",
        "x='1 2'",
    ]


def test_several_machines_meet_at_the_master(launch):
    _, lines, _ = launch(
        "dist_train.sh", "c.py", "4", NNODES="2", NODE_RANK="1", MASTER_ADDR="10.0.0.1"
    )
    assert {
        "--nnodes=2",
        "--node_rank=1",
        "--master_addr=10.0.0.1",
        "--master_port=29500",
    } < set(lines)
    assert "--standalone" not in lines


def test_testing(launch):
    code, (_, _, *argv), _ = launch("dist_test.sh", "c.py", "c.pth", "2", "--out", "r.pkl")
    assert code == 0
    assert argv[argv.index("--standalone") + 1 :] == [
        str(TOOLS / "test.py"),
        "c.py",
        "c.pth",
        "--launcher",
        "pytorch",
        "--out",
        "r.pkl",
    ]


def test_slurm(launch):
    code, (_, program, *argv), _ = launch(
        "slurm_train.sh",
        "gpu",
        "sidt",
        "c.py",
        "work dir",
        "--resume",
        GPUS="4",
        SRUN_ARGS="--exclude=node7 --time=1:00",
    )
    assert code == 0
    assert program.endswith("/srun")
    assert {
        "--partition=gpu",
        "--job-name=sidt",
        "--ntasks=4",
        "--ntasks-per-node=4",
        "--gres=gpu:4",
        "--exclude=node7",
        "--time=1:00",
    } < set(argv)
    assert argv[argv.index("python") :] == [
        "python",
        "-u",
        str(TOOLS / "train.py"),
        "c.py",
        "--work-dir",
        "work dir",
        "--launcher",
        "slurm",
        "--resume",
    ]


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("dist_train.sh", ["c.py"]),
        ("dist_train.sh", ["c.py", "two"]),
        ("dist_train.sh", ["c.py", "0"]),
        ("dist_test.sh", ["c.py", "4"]),
        ("dist_test.sh", ["c.py", "4", "c.pth"]),
        ("slurm_train.sh", ["gpu", "job", "c.py"]),
    ],
)
def test_bad_arguments_get_the_usage(launch, script, arguments):
    code, started, error = launch(script, *arguments)
    assert code == 2
    assert not started
    assert error.startswith("usage: bash")
    assert "CONFIG" in error


def test_torchrun_takes_these_arguments(tmp_path):
    """The real thing with two processes, on a tool that only says who it is."""
    for name in ("dist_train.sh", "launch.sh"):
        (tmp_path / name).write_text((TOOLS / name).read_text())
    (tmp_path / "train.py").write_text(
        "import os, pathlib, sys\n"
        "rank = os.environ['RANK']\n"
        "said = ' '.join([rank, os.environ['WORLD_SIZE'], *sys.argv[1:]])\n"
        "pathlib.Path(__file__).with_name('rank' + rank).write_text(said)\n"
    )
    subprocess.run(
        ["bash", tmp_path / "dist_train.sh", "c.py", "2", "--resume"],
        env={**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        timeout=120,
    )
    for rank in ("0", "1"):
        said = (tmp_path / f"rank{rank}").read_text()
        assert said == f"{rank} 2 c.py --launcher pytorch --resume"
