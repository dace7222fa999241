"""The set-up's decisions, without a network and without making an environment."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def setup(tmp_path, monkeypatch):
    """The script, at work in an empty folder, with commands that are only noted."""
    spec = importlib.util.spec_from_file_location("setup_env", ROOT / "tools" / "setup_env.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "PYTHON", tmp_path / ".venv" / "bin" / "python")
    monkeypatch.setattr(module, "STAMP", tmp_path / ".venv" / "ready")
    (tmp_path / "pyproject.toml").write_text("[project]")
    module.commands, module.fail = [], lambda line: False

    def run(words, **_):
        line = " ".join(words)
        module.commands.append(line)
        if " -m venv " in line:
            module.PYTHON.parent.mkdir(parents=True)
            module.PYTHON.write_text("")
        return subprocess.CompletedProcess(words, int(module.fail(line)))

    monkeypatch.setattr(module.subprocess, "run", run)
    return module


def position(commands: list[str], *words: str) -> int:
    (found,) = (i for i, line in enumerate(commands) if all(word in line for word in words))
    return found


def test_everything_in_its_order_once(setup, capsys):
    setup.main()
    order = [
        position(setup.commands, "-m venv"),
        position(setup.commands, "pip install", "uv=="),
        position(setup.commands, "uv pip install", "-r", "torch.txt"),
        position(setup.commands, "uv pip install --no-deps", "main.txt", "constraints.txt"),
        position(setup.commands, "-m pip install", "--no-build-isolation -r", "mmcv.txt"),
        position(setup.commands, "uv pip install", "-e"),
    ]
    assert order == sorted(order)
    before = len(setup.commands)
    setup.main()
    assert len(setup.commands) == before
    assert "nothing to do" in capsys.readouterr().out
    # A change of what is installed is one more set-up, which keeps the environment.
    (setup.ROOT / "pyproject.toml").write_text("[project]\nname = 'x'")
    setup.main()
    position(setup.commands, "-m venv")
    assert len(setup.commands) > before


def test_what_fails_is_said_and_goes_on_the_next_time(setup):
    setup.fail = lambda line: "torch.txt" in line and "uv pip" in line
    with pytest.raises(SystemExit, match=r"stopped at: .*torch\.txt"):
        setup.main()
    assert not setup.STAMP.exists()
    setup.fail = lambda line: False
    setup.main()
    assert setup.STAMP.exists()


def test_operators_of_another_torch_are_compiled_anew(setup):
    checks = []
    setup.fail = lambda line: "mmcv.ops" in line and not checks and not checks.append(1)
    setup.main()
    position(setup.commands, "--force-reinstall", "--no-binary onedl-mmcv")


@pytest.mark.parametrize("wheel", [True, False])
def test_a_compiler_is_asked_for_only_where_no_wheel_is(setup, monkeypatch, wheel):
    monkeypatch.setattr(setup, "can_compile", lambda: False)
    setup.fail = lambda line: "--dry-run" in line and not wheel
    if wheel:
        setup.main()
    else:
        with pytest.raises(SystemExit, match=r"no working C\+\+ compiler.*PIP_FIND_LINKS"):
            setup.main()
        assert not any("torch.txt" in line for line in setup.commands)


def test_pips_settings_are_told_to_uv(setup, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", "/a /b")
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror/simple")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    env = setup.environment()
    assert env["UV_FIND_LINKS"] == "/a,/b"
    assert env["UV_DEFAULT_INDEX"] == "https://mirror/simple"
    assert "PYTHONPATH" not in env


def test_another_python_is_refused(setup, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 1, "final", 0))
    with pytest.raises(SystemExit, match=r"Python 3\.10 to 3\.12"):
        setup.main()
