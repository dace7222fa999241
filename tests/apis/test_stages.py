"""The stages of a chain: fresh interpreters that end with the chain, and a record that mixes nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rarts_mm.apis.errors import UsageError
from rarts_mm.apis.stages import StageError, Stages, process
from tests.apis import stage_functions
from tests.conftest import ROOT

IDENTITY = dict(config="a", pair=(1, 2))


@pytest.fixture
def stages(tmp_path) -> Stages:
    return Stages(tmp_path / "work" / "stages.json", IDENTITY)


def logged(stages: Stages, name: str) -> str:
    return (stages.path.parent / "logs" / f"{name}.log").read_text()


def wait_for(condition, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        # A process whose parent has not asked for its exit code yet is none that does anything.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_runs_once_and_remembers(stages, capsys):
    assert stages.run("a sum", "add 1 2", stage_functions.add, 1, 2)["sum"] == 3
    out = capsys.readouterr().out
    assert "[a sum] add 1 2" in out
    assert "added" in out
    # What a stage prints is in its log, whose place is said.
    assert "at length" not in out
    assert str(stages.path.parent / "logs" / "a-sum.log") in out
    assert "$ add 1 2\nadding, at length" in logged(stages, "a-sum")
    again = Stages(stages.path, IDENTITY)
    assert again.run("a sum", "add 1 2", stage_functions.fail)["sum"] == 3
    assert "[a sum] done before, skipped" in capsys.readouterr().out


@pytest.mark.slow
def test_verbose_shows_what_a_stage_prints(tmp_path, capsys):
    Stages(tmp_path / "stages.json", {}, verbose=True).run("sum", "add", stage_functions.add, 1, 2)
    assert "adding, at length" in capsys.readouterr().out


def test_identity_is_written_before_the_first_stage(stages):
    with pytest.raises(UsageError, match=r"holds another run .it differs in config"):
        Stages(stages.path, dict(IDENTITY, config="b"))
    with pytest.raises(UsageError, match="it differs in more"):
        Stages(stages.path, dict(IDENTITY, more=1))
    Stages(stages.path, IDENTITY)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"identity": 1, "done": {}}',
        '{"identity": {}, "done": {"a": 1}}',
        "\0\1",
    ],
)
def test_broken_record(stages, text):
    stages.path.write_text(text)
    with pytest.raises(UsageError, match=r"stages\.json is no record .* --work-dir"):
        Stages(stages.path, IDENTITY)
    assert stages.path.read_text() == text


@pytest.mark.slow
def test_errors_of_a_stage(stages, capsys):
    with pytest.raises(UsageError, match="3 apples"):
        stages.run("refused", "", stage_functions.refuse)
    with pytest.raises(StageError, match=r"'failed' failed: ZeroDivisionError.*failed\.log"):
        stages.run("failed", "", stage_functions.fail)
    assert 'return dict(value=1 / int("0"))' in capsys.readouterr().out
    with pytest.raises(
        StageError, match=r"'killed' ended by signal 9 .*memory.*same command again"
    ):
        stages.run("killed", "", stage_functions.die)
    assert json.loads(stages.path.read_text())["done"] == {}


@pytest.mark.slow
def test_a_stage_computes_in_parallel_after_its_parent_has(stages):
    # In a process of its own: this one's threads are the other tests' affair.
    script = (
        "import torch; torch.set_num_threads(2); torch.ones(1 << 20).mean()\n"
        "from rarts_mm.apis.stages import Stages\n"
        "from tests.apis import stage_functions\n"
        f"stages = Stages({str(stages.path)!r}, {dict(IDENTITY)!r})\n"
        "print(stages.run('mean', '', stage_functions.parallel_mean, 2))\n"
    )
    env = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    run = subprocess.run(
        [sys.executable, "-c", script],
        **dict(capture_output=True, text=True, timeout=300, cwd=ROOT, env=env),
    )
    assert "{'mean': 1.0, 'threads': 2}" in run.stdout, run.stderr


@pytest.mark.slow
def test_silence_is_noticed(stages, monkeypatch, capsys):
    monkeypatch.setattr(process, "_SILENCE", 1.0)
    log = stages.path.parent / "logs" / "quiet.log"
    stages.run("quiet", "", stage_functions.nap, log)
    assert "[quiet] nothing new for 0:01 (process" in capsys.readouterr().out


CHAIN = """
import sys
from pathlib import Path
from rarts_mm.apis import command_line
from rarts_mm.apis.stages import Stages
from tests.apis import stage_functions
def main():
    stages = Stages(sys.argv[1] + "/stages.json", {})
    stages.run("stays", "", stage_functions.stay, Path(sys.argv[1]) / "marker", bool(int(sys.argv[2])))
command_line.run(main, hint="again")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "deaf", "seconds"),
    [
        (signal.SIGKILL, True, 5),
        pytest.param(signal.SIGTERM, False, 8, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, False, 8, marks=pytest.mark.slow),
        # Asked first, killed after ten seconds.
        pytest.param(signal.SIGTERM, True, 20, marks=pytest.mark.slow),
    ],
)
def test_stages_end_with_their_chain(tmp_path, sent, deaf, seconds):
    chain = subprocess.Popen(
        [sys.executable, "-c", CHAIN, tmp_path, str(int(deaf))],
        **dict(cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True),
    )
    marker = tmp_path / "marker"
    wait_for(lambda: marker.is_file() and len(marker.read_text().split()) == 2, 300)
    stage, worker = map(int, marker.read_text().split())
    chain.send_signal(sent)
    wait_for(lambda: not is_alive(stage) and not is_alive(worker), seconds)
    _, err = chain.communicate(timeout=10)
    assert chain.returncode == (-sent if sent == signal.SIGKILL else 128 + sent)
    assert "Traceback" not in err
