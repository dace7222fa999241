"""The set-up's mechanism and its plan, without a network and without making an environment."""

import importlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "tools"


@pytest.fixture(scope="module")
def tools():
    """The two modules of the set-up, which are scripts and not in the package."""
    sys.path.insert(0, str(TOOLS))
    try:
        yield importlib.import_module("setup_steps"), importlib.import_module("setup_venv")
    finally:
        sys.path.remove(str(TOOLS))


@pytest.fixture
def mechanism(tools):
    return tools[0]


@pytest.fixture
def venv(tools):
    return tools[1]


class Plan:
    """Steps that note that they ran, with inputs that a test can change."""

    def __init__(self, mechanism, state, names="abc"):
        self.mechanism, self.state, self.done = mechanism, state, []
        self.inputs = {name: f"{name}==1" for name in names}
        self.broken = {}
        state.mkdir(parents=True, exist_ok=True)

    def run(self, out=None, hints=()):
        def action(name):
            def run(runner):
                self.done.append(name)
                if name in self.broken:
                    self.broken[name](runner)

            return run

        steps = [
            self.mechanism.Step(name, f"does {name}", [text], action(name))
            for name, text in self.inputs.items()
        ]
        self.done.clear()
        out = out or io.StringIO()
        env = dict(os.environ)
        self.mechanism.perform(steps, self.state, self.state, env, out=out, hints=hints)
        return self.done


@pytest.fixture
def plan(mechanism, tmp_path):
    return Plan(mechanism, tmp_path / "state")


def test_done_once(plan):
    out = io.StringIO()
    assert plan.run(out) == ["a", "b", "c"]
    assert [line[:5] for line in out.getvalue().splitlines()[::2]] == ["[1/3]", "[2/3]", "[3/3]"]
    assert plan.run() == []


@pytest.mark.parametrize(
    ("changed", "again"), [("a", ["a", "b", "c"]), ("b", ["b", "c"]), ("c", ["c"])]
)
def test_changed_inputs_redo_the_step_and_those_after_it(plan, changed, again):
    plan.run()
    plan.inputs[changed] = "other"
    assert plan.run() == again
    assert plan.run() == []


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"digest": "old"}'])
def test_a_missing_or_broken_stamp_redoes_the_step_and_those_after_it(plan, content):
    plan.run()
    stamp = plan.state / "b.json"
    stamp.unlink() if content is None else stamp.write_text(content)
    assert plan.run() == ["b", "c"]


def test_a_failure_stops_there_and_goes_on_there(plan, mechanism):
    plan.run()
    plan.inputs["b"] = "other"
    plan.broken["b"] = lambda runner: runner.run(sys.executable, "-c", "raise SystemExit(3)")
    with pytest.raises(mechanism.StepFailed, match="exit status 3"):
        plan.run()
    assert plan.done == ["b"]
    # c is not done any more either, though its own inputs are the same.
    assert sorted(path.name for path in plan.state.glob("*.json")) == ["a.json"]
    plan.broken.clear()
    assert plan.run() == ["b", "c"]


def test_an_interruption_leaves_no_stamp_and_names_the_step(plan):
    def interrupted(runner):
        raise KeyboardInterrupt

    plan.broken["b"] = interrupted
    with pytest.raises(KeyboardInterrupt) as caught:
        plan.run()
    assert caught.value.step == "b"
    plan.broken.clear()
    assert plan.run() == ["b", "c"]


def test_the_failure_message_has_step_command_log_and_advice(plan, mechanism):
    code = "print('x' * 5); print('fatal error: Python.h: No such file'); raise SystemExit(1)"
    plan.broken["b"] = lambda runner: runner.run(sys.executable, "-c", code)
    hints = [mechanism.Hint(r"Python\.h", "install the headers"), mechanism.Hint("zzz", "sleep")]
    with pytest.raises(mechanism.StepFailed) as caught:
        plan.run(hints=hints)
    text = mechanism.explain(caught.value, plan.state)
    assert "step 'b'" in text
    assert f"command: {sys.executable} -c " in text
    assert "the end of b.log:" in text
    assert "| fatal error: Python.h" in text
    assert "install the headers" in text
    assert "sleep" not in text


@pytest.mark.parametrize(
    ("output", "advice"),
    [
        ("NewConnectionError('<pip...>: Failed to establish a new connection')", "PIP_INDEX_URL"),
        ("ERROR: No matching distribution found for torch==2.11.0", "Without a network"),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("mmcv/x.cpp:1:10: fatal error: Python.h: No such file or directory", "-dev"),
        ("error: command 'g++' failed: No such file or directory", "sudo apt install g++"),
        ("g++: fatal error: Killed signal terminated program cc1plus", "MAX_JOBS=1"),
        (
            "RuntimeError: The detected CUDA version (12.4) mismatches the version that was used",
            "MMCV_CPU=1",
        ),
        ("The virtual environment was not created: ensurepip is not available", "-venv"),
    ],
)
def test_every_usual_failure_has_its_own_advice(plan, venv, mechanism, output, advice):
    plan.broken["a"] = lambda runner: runner.run(
        sys.executable, "-c", f"print({output!r}); raise SystemExit(1)"
    )
    with pytest.raises(mechanism.StepFailed) as caught:
        plan.run(hints=venv.HINTS)
    assert advice in caught.value.advice
    matching = [hint for hint in venv.HINTS if re.search(hint.pattern, output)]
    assert len(matching) == 1


def test_of_several_hints_the_cause_is_shown(plan, venv, mechanism):
    code = "print('NewConnectionError'); print('No matching distribution found for pip'); exit(1)"
    plan.broken["a"] = lambda runner: runner.run(sys.executable, "-c", code)
    with pytest.raises(mechanism.StepFailed) as caught:
        plan.run(hints=venv.HINTS)
    assert caught.value.advice == venv.HINTS[0].advice


def test_progress_counts_compiled_files(mechanism, tmp_path):
    log = tmp_path / "log"
    log.write_text("  [1/104] c++ -c a.cpp\n  [37/104] c++ -c b.cpp -O3\nwarning: [9/8] no\n")
    assert mechanism.progress(log) == "(37 of 104 files compiled)"
    log.write_text("Collecting torch\n  Downloading torch\n\n")
    assert mechanism.progress(log) == "Downloading torch"
    assert mechanism.progress(tmp_path / "none") == ""


def test_long_commands_show_the_time(plan, mechanism, monkeypatch):
    monkeypatch.setattr(mechanism, "HEARTBEAT_S", 0.6)
    code = "import time; print('[3/7] c++', flush=True); time.sleep(1.6)"
    plan.broken["a"] = lambda runner: runner.run(sys.executable, "-c", code)
    out = io.StringIO()
    plan.run(out)
    assert re.search(r"a: 0:0[12] \(3 of 7 files compiled\)", out.getvalue())


def test_output_is_the_last_line_printed(plan):
    seen = []
    plan.broken["a"] = lambda runner: seen.extend(
        runner.output(sys.executable, "-c", code) for code in ("print(1); print(2)", "")
    )
    plan.run()
    assert seen == ["2", ""]


SCRIPT = """
import sys, time
sys.path.insert(0, {tools!r})
import setup_steps, setup_venv
from pathlib import Path
state = Path({state!r})
setup_venv.STATE, setup_venv.VENV, setup_venv.PYTHON = state, state, Path(sys.executable)
child = "import os, subprocess, sys, time; p = subprocess.Popen(['sleep', '60']);" \\
        "open({pids!r}, 'w').write(f'{{os.getpid()}} {{p.pid}}'); time.sleep({nap})"
steps = [
    setup_steps.Step("first", "quick", ["1"], lambda runner: None),
    setup_steps.Step("second", "slow", ["1"], lambda r: r.run(sys.executable, "-c", child)),
]
sys.exit(setup_venv.main(steps))
"""


def start(tmp_path, nap=60):
    pids = tmp_path / "pids"
    state = str(tmp_path / "state")
    code = SCRIPT.format(tools=str(TOOLS), state=state, pids=str(pids), nap=nap)
    return pids, subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc who is alive")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_whole_tree_and_the_next_run_goes_on(tmp_path, number):
    pids, process = start(tmp_path)
    wait_for(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    children = pids.read_text().split()
    assert all(alive(pid) for pid in children)
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "interrupted in step 'second'" in said
    assert not any(alive(pid) for pid in children)

    _, again = start(tmp_path, nap=0)
    out, _ = again.communicate(timeout=20)
    assert again.returncode == 0
    assert "[2/2] second" in out
    assert "[1/2]" not in out


def test_two_at_once_do_the_work_once(tmp_path):
    pids, one = start(tmp_path, nap=1.5)
    wait_for(pids.exists)
    _, two = start(tmp_path, nap=1.5)
    out_two, _ = two.communicate(timeout=30)
    out_one, _ = one.communicate(timeout=30)
    assert (one.returncode, two.returncode) == (0, 0)
    assert "[2/2] second" in out_one
    assert f"another set-up is running (process {one.pid})" in out_two
    assert "nothing to do" in out_two


def test_a_failed_step_is_explained_and_the_exit_status_is_not_zero(
    venv, mechanism, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(venv, "STATE", tmp_path)
    monkeypatch.setattr(venv.signal, "signal", lambda *_: None)
    code = "import sys; sys.exit('No space left on device')"
    steps = [mechanism.Step("big", "much", [], lambda r: r.run(sys.executable, "-c", code))]
    assert venv.main(steps) == 1
    said = capsys.readouterr().err
    assert "stopped in step 'big'" in said
    assert "No space left on device" in said
    assert "disk is full" in said


def test_nothing_to_do_is_quick_and_asks_no_pip(tmp_path):
    """The real plan with all stamps in place: the price that every `make test` pays."""
    code = (
        f"import sys; sys.path.insert(0, {str(TOOLS)!r})\n"
        "import setup_steps, setup_venv\nfrom pathlib import Path\n"
        f"state = setup_venv.STATE = Path({str(tmp_path)!r})\n"
        "setup_venv.PYTHON = Path(sys.executable)\n"
        "for name, digest in setup_steps.digests(setup_venv.plan()).items():\n"
        "    setup_steps.write_stamp(state / f'{name}.json', digest, 1.0)\n"
        "setup_venv.perform = None\n"
        "sys.exit(setup_venv.main())\n"
    )
    begin = time.monotonic()
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "nothing to do" in result.stdout
    assert time.monotonic() - begin < 3.0


def test_an_interpreter_that_is_gone_redoes_everything(venv, mechanism, tmp_path, monkeypatch):
    monkeypatch.setattr(venv, "STATE", tmp_path / "state")
    monkeypatch.setattr(venv, "PYTHON", tmp_path / "gone")
    monkeypatch.setattr(venv, "VENV", tmp_path / "venv")
    monkeypatch.setattr(venv.signal, "signal", lambda *_: None)
    done = []
    steps = [mechanism.Step(n, n, [], lambda r, n=n: done.append(n)) for n in ("a", "b")]
    assert venv.main(steps) == 0
    assert venv.main(steps) == 0
    assert done == ["a", "b", "a", "b"]


def test_half_installed_packages_are_found(venv, tmp_path):
    for name, files in {
        "whole-1.dist-info": ["METADATA", "INSTALLER", "RECORD"],
        "no_record-1.dist-info": ["METADATA", "INSTALLER"],
        "early-1.dist-info": ["METADATA", "RECORD"],
        "~orch": ["__init__.py"],
        "torch": ["__init__.py"],
    }.items():
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_text("")
    found = {path.name for path in venv.half_installed(tmp_path)}
    assert found == {"no_record-1.dist-info", "early-1.dist-info", "~orch"}
    assert list(venv.half_installed(tmp_path / "none")) == []


# --- the plan ------------------------------------------------------------------------------------


def test_the_plan_depends_on_the_pins(venv, mechanism, tmp_path, monkeypatch):
    before = mechanism.digests(venv.plan())
    for file in venv.REQUIREMENTS.glob("*.txt"):
        (tmp_path / file.name).write_text(file.read_text())
    monkeypatch.setattr(venv, "REQUIREMENTS", tmp_path)
    assert mechanism.digests(venv.plan()) == before

    constraints = tmp_path / "constraints.txt"
    constraints.write_text("# only a comment\n" + constraints.read_text())
    assert mechanism.digests(venv.plan()) == before

    constraints.write_text(constraints.read_text() + "extra==1\n")
    after = mechanism.digests(venv.plan())
    changed = [name for name in before if before[name] != after[name]]
    assert changed == ["libraries", "mmcv", "project", "verify"]


def test_every_requirement_is_pinned_once_for_every_python(venv):
    markers = importlib.import_module("packaging.requirements")
    lines = venv.requirements("torch", "mmcv", "main", "constraints")
    for version in ("3.10", "3.11", "3.12"):
        names = []
        for line in lines:
            requirement = markers.Requirement(line)
            assert re.fullmatch(r"==[\w.]+", str(requirement.specifier)), line
            if not requirement.marker or requirement.marker.evaluate({"python_version": version}):
                names.append(requirement.name.lower().replace("_", "-"))
        assert len(names) == len(set(names))
        assert sum("opencv" in name for name in names) == 1
    assert not [line for line in lines if line.startswith(("nvidia", "cuda", "triton"))]


def test_commands_are_not_led_astray_by_the_callers_shell(venv, monkeypatch):
    for name in ("PIP_USER", "PIP_TARGET", "PYTHONPATH"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("PIP_FIND_LINKS", "/wheels")
    env = venv.environment()
    assert not {"PIP_USER", "PIP_TARGET", "PYTHONPATH"} & set(env)
    assert env["PIP_FIND_LINKS"] == "/wheels"
    assert env["PATH"].split(os.pathsep)[0] == str(venv.VENV / "bin")


@pytest.mark.parametrize(("gib", "jobs"), [(1.0, "1"), (5.0, "2"), (64.0, "4")])
def test_compilers_at_once_follow_memory_and_cores(venv, monkeypatch, gib, jobs):
    monkeypatch.delenv("MAX_JOBS", raising=False)
    monkeypatch.setenv("CFLAGS", "-O1")
    monkeypatch.setattr(venv, "cores", lambda: 4)
    monkeypatch.setattr(venv, "free_memory", lambda: gib * 2**30)
    env = venv.build_environment()
    assert env["MAX_JOBS"] == jobs
    assert env["CFLAGS"] == "-O1 -g0"
    assert env["MMCV_WITH_OPS"] == "1"
    monkeypatch.setenv("MAX_JOBS", "7")
    assert venv.build_environment()["MAX_JOBS"] == "7"


class Answers:
    """Stands in for the runner: answers by what the command contains, and notes the commands."""

    def __init__(self, log, **facts):
        self.log, self.facts, self.commands, self.said = log, facts, [], []

    def succeeds(self, *command, env=None):
        self.commands.append(" ".join(map(str, command)))
        if "--only-binary" in command:
            return self.facts.get("wheel", False)
        if "cache" in command:
            return bool(self.facts.get("cached"))
        if "from mmcv.ops import nms" in str(command[-1]):
            return self.facts.get("works", lambda: True)()
        return self.facts.get("compiler", True)

    def output(self, *command, env=None):
        if "cache" in command:
            return self.facts.get("cached", "")
        if "CUDA_HOME" in str(command[-1]):
            gpu = self.facts.get("gpu", False) and "CUDA_VISIBLE_DEVICES" not in (env or {})
            return json.dumps({"gpu": gpu, "home": self.facts.get("home"), "cuda": "13.0"})
        return json.dumps({"include": "/include", "LDSHARED": "sh -x", "LDCXXSHARED": "sh"})

    def run(self, *command, env=None, advice=""):
        self.commands.append(" ".join(map(str, command)))

    def say(self, text):
        self.said.append(text)

    def installs(self):
        return [c for c in self.commands if " install " in c and "--dry-run" not in c]


@pytest.fixture
def state(venv, tmp_path, monkeypatch):
    monkeypatch.setattr(venv, "STATE", tmp_path)
    monkeypatch.setattr(venv, "installed_version", {"torch": "2.11.0"}.get)
    for name in ("MMCV_CPU", "CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(venv.shutil, "which", lambda name, path=None: None if path else name)
    return tmp_path


HERE = "cp{}{}".format(*sys.version_info[:2])


@pytest.mark.parametrize(
    ("facts", "how", "words"),
    [
        ({"wheel": True}, "a ready wheel", "--only-binary onedl-mmcv"),
        ({"cached": f"/c/x-{HERE}-x.whl"}, "a wheel from pip's cache", "--no-binary onedl-mmcv"),
        ({"cached": "/c/x-cp39-x.whl"}, "compiled here", "--no-binary onedl-mmcv"),
        ({}, "compiled here", "--no-binary onedl-mmcv"),
    ],
)
def test_where_mmcv_comes_from(venv, state, facts, how, words):
    runner = Answers(state / "log", **facts)
    assert venv.install_mmcv(runner) == how
    (install,) = runner.installs()
    assert "--no-build-isolation" in install
    assert words in install
    assert "--no-cache-dir" not in install  # so that the next environment finds it
    assert any("12 minutes" in text for text in runner.said) == (how == "compiled here")


def test_operators_that_do_not_work_give_way_to_the_next_source(venv, state, monkeypatch):
    versions = {"torch": "2.11.0", "onedl-mmcv": "2.3.6"}
    monkeypatch.setattr(venv, "installed_version", versions.get)
    works = iter([False, False, False, True])
    runner = Answers(state / "log", wheel=True, cached=f"x-{HERE}-x", works=lambda: next(works))
    assert venv.install_mmcv(runner) == "compiled here"
    ready, cached, compiled = runner.installs()  # what was there needed no installation
    assert "--only-binary" in ready
    assert "--no-cache-dir" not in cached
    assert "--no-cache-dir" in compiled
    assert all("--force-reinstall" in words for words in runner.installs())


def test_operators_that_never_work_are_a_failure(venv, mechanism, state):
    runner = Answers(state / "log", wheel=True, works=lambda: False)
    with pytest.raises(mechanism.StepFailed, match="do not work"):
        venv.install_mmcv(runner)
    assert len(runner.installs()) == 2  # compiled once, not for ever
    assert not (state / "mmcv-built-for.txt").exists()


def test_another_torch_means_other_operators(venv, state, monkeypatch):
    versions = {"torch": "2.11.0", "onedl-mmcv": "2.3.6"}
    monkeypatch.setattr(venv, "installed_version", versions.get)
    assert venv.install_mmcv(Answers(state / "log")) == "was there"
    versions["torch"] = "2.12.0"
    runner = Answers(state / "log", cached=f"onedl_mmcv-2.3.6-{HERE}-x")
    assert venv.install_mmcv(runner) == "compiled here"
    (install,) = runner.installs()
    assert "--force-reinstall" in install
    assert "--no-cache-dir" in install
    assert venv.install_mmcv(Answers(state / "log")) == "was there"


def test_a_second_opencv_is_taken_out_before_the_libraries_go_in(venv, state, monkeypatch):
    runner = Answers(state / "log")
    venv.install_libraries(runner)
    assert ["uninstall" in command for command in runner.commands] == [False]
    monkeypatch.setattr(venv, "installed_version", {"opencv-python": "4.12.0.88"}.get)
    venv.install_libraries(runner)
    _, uninstall, install = runner.commands
    assert uninstall.endswith("uninstall -y opencv-python opencv-python-headless")
    assert "--no-deps" in install


def test_a_gpu_without_nvcc_stops_before_the_build_with_both_remedies(
    venv, mechanism, state, monkeypatch
):
    runner = Answers(state / "log", gpu=True)
    with pytest.raises(mechanism.StepFailed) as caught:
        venv.install_mmcv(runner)
    assert "CUDA toolkit 13.0" in caught.value.advice
    assert "MMCV_CPU=1 make" in caught.value.advice
    assert runner.installs() == []

    monkeypatch.setenv("MMCV_CPU", "1")
    assert venv.install_mmcv(Answers(state / "log", gpu=True)) == "compiled here"


def test_no_compiler_stops_before_the_long_steps_only_if_one_is_needed(venv, mechanism, state):
    assert "not needed" in venv.check_compiler(Answers(state / "log", wheel=True, compiler=False))
    with pytest.raises(mechanism.StepFailed, match=r"no working C\+\+ compiler") as caught:
        venv.check_compiler(Answers(state / "log", compiler=False))
    assert "PIP_FIND_LINKS" in caught.value.advice
    assert "will be compiled" in venv.check_compiler(Answers(state / "log"))


def test_a_python_built_with_an_absent_compiler_is_named(venv, mechanism, state, monkeypatch):
    absent = {"sh"}
    monkeypatch.setattr(
        venv.shutil, "which", lambda name, path=None: None if name in absent else name
    )
    with pytest.raises(mechanism.StepFailed, match="built with 'sh'") as caught:
        venv.check_compiler(Answers(state / "log"))
    assert "CC=gcc CXX=g++" in caught.value.advice
    monkeypatch.setenv("CC", "gcc")
    monkeypatch.setenv("CXX", "g++")
    assert "will be compiled" in venv.check_compiler(Answers(state / "log"))


# --- the Makefile --------------------------------------------------------------------------------


def make(*words, **env):
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHON", "MAKEFLAGS", "MAKELEVEL")}
    return subprocess.run(
        ["make", "-C", str(ROOT), "--no-print-directory", *words],
        env=clean | env,
        capture_output=True,
        text=True,
    )


def test_make_alone_helps():
    result = make()
    assert result.returncode == 0
    for target in ("demo", "test", "test-slow", "lint", "setup", "clean-venv"):
        assert f"make {target} " in result.stdout


def test_make_says_so_when_no_python_fits(tmp_path):
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    result = make("setup", PYTHON=str(old))
    assert result.returncode != 0
    assert (
        f"No Python 3.10, 3.11 or 3.12 with its venv module found (tried: {old})" in result.stderr
    )
    assert "make PYTHON=" in result.stderr
