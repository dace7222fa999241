"""``rarts-mm``, the command that is installed with the package."""

import re
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from rarts_mm import console
from tests.conftest import ROOT


def test_it_is_installed():
    (point,) = (p for p in entry_points(group="console_scripts") if p.name == "rarts-mm")
    assert point.load() is console.main


def test_commands_are_listed(capsys):
    console.main(["--help"])
    listed = capsys.readouterr().out
    for file in (ROOT / "tools").glob("*.py"):
        if f"rarts-mm {(name := file.stem.replace('_', '-'))}``" in file.read_text():
            assert re.search(rf"^  {name} +\w", listed, re.MULTILINE)
    assert re.search(r"^  sweep +many trainings", listed, re.MULTILINE)
    with pytest.raises(SystemExit) as end:
        console.main(["swep"])
    assert end.value.code == 2
    assert "there is no command 'swep'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_sweep_is_listed_and_refused_in_words(tmp_path):
    spec = tmp_path / "spec.yaml"
    spec.write_text("tool: train\nconfig: missing.py\n")
    command = [sys.executable, "-c", "from rarts_mm.console import main; main()", "sweep"]
    done = subprocess.run([*command, spec, "--list"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "missing.py" in done.stderr
    assert "Traceback" not in done.stderr
    done = subprocess.run([*command, "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: rarts-mm sweep")
