"""Makes ``.venv``, the environment of ``make demo`` and ``make test`` (standard library only).

    python3.11 tools/setup_venv.py

Runs under Python 3.10 to 3.12 and gives the environment the same version. Versions are pinned in
``requirements/``. Each step is done once and leaves a stamp in ``.venv/.setup/``; with nothing to
do it costs a fraction of a second. Environment variables that matter:

``PIP_FIND_LINKS``  a folder or page with ready wheels, for example of onedl-mmcv
``MMCV_CPU=1``      hide a GPU from the build of mmcv's operators
``MAX_JOBS``        compilers at once in that build (by default what cores and memory allow)
``CC``, ``CXX``     the compilers
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from importlib.metadata import distributions
from pathlib import Path

from setup_steps import Hint, Runner, Step, StepFailed, explain, forget, lock, pending, perform

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STATE = VENV / ".setup"
PYTHON = VENV / "bin" / "python"
REQUIREMENTS = ROOT / "requirements"
MMCV = "onedl-mmcv"

OLDEST, NEWEST = (3, 10), (3, 12)
GIB_PER_COMPILER = 2.0
COMPILED = "compiled here"
COMPILING_TAKES = "about 12 minutes on two cores"
# Settings of the caller's shell that would send packages elsewhere, or bring foreign ones in.
UNWANTED = ("PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT")

NO_COMPILER = (
    "Install a C++ compiler and Python's headers (Debian, Ubuntu: "
    "sudo apt install g++ python{0}-dev; Fedora: sudo dnf install gcc-c++ python{0}-devel; "
    "macOS: xcode-select --install), or give pip a folder with a ready wheel of " + MMCV + ": "
    "PIP_FIND_LINKS=/folder make setup"
).format("{}.{}".format(*sys.version_info[:2]))

HINTS = (
    Hint(
        r"NewConnectionError|NameResolutionError|Temporary failure in name resolution|ProxyError"
        r"|Network is unreachable|ConnectTimeoutError|ReadTimeoutError|SSLError|Connection refused"
        r"|Connection reset|IncompleteRead|ConnectionError",
        "The package registry cannot be reached, or broke off. Check the network and a proxy "
        "(HTTPS_PROXY), or name a mirror (PIP_INDEX_URL) or a folder of wheels (PIP_FIND_LINKS).",
    ),
    Hint(
        r"No matching distribution found|Could not find a version that satisfies",
        "The registry that pip asks has no such version for this machine and Python. Without a "
        "network this message is the usual one, too. Check PIP_INDEX_URL, PIP_NO_INDEX and pip's "
        "configuration (pip config list).",
    ),
    Hint(
        r"No space left on device|Disk quota exceeded",
        "The disk is full: the environment takes about 6 GB, and as much again while packages are "
        "unpacked. Free some space, or point TMPDIR and PIP_CACHE_DIR to another disk.",
    ),
    Hint(
        r"Python\.h: No such file|command '?\S*(g\+\+|c\+\+|clang\S*|gcc|cc)'? failed: No such file"
        r"|compiler .*(not found|is missing)",
        NO_COMPILER,
    ),
    Hint(
        r"Killed signal terminated program|virtual memory exhausted|out of memory allocating"
        r"|Cannot allocate memory",
        "A compiler ran out of memory. Compile one file at a time: MAX_JOBS=1 make setup",
    ),
    Hint(
        r"detected CUDA version .* mismatches",
        "The CUDA toolkit (nvcc) is of another version than torch was built with. Point CUDA_HOME "
        "to a toolkit of torch.version.cuda, or build for the CPU: MMCV_CPU=1 make setup",
    ),
    Hint(
        r"ensurepip is not available|No module named '?(ensurepip|venv)",
        "This Python cannot make virtual environments. Debian, Ubuntu: sudo apt install "
        "python{}.{}-venv".format(*sys.version_info[:2]),
    ),
)

TORCH_WORKS = """
import torch, torchvision
boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.9], [5.0, 5.0, 6.0, 6.0]])
assert torchvision.ops.nms(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5).tolist() == [1, 2]
"""

MMCV_WORKS = """
import torch
from mmcv.ops import nms
boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.9], [5.0, 5.0, 6.0, 6.0]])
for device in ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]:
    scores = torch.tensor([0.5, 0.9, 0.1], device=device)
    assert nms(boxes.to(device), scores, 0.5)[1].tolist() == [1, 2], device
"""

ALL_WORKS = (
    TORCH_WORKS
    + MMCV_WORKS
    + """
import mmcv, mmdet, mmengine, mmpretrain, pycocotools.mask, timm
import rarts_mm
print(", ".join(f"{m.__name__} {m.__version__}" for m in (torch, torchvision, mmengine, mmcv, mmdet,
                                                           mmpretrain, timm, rarts_mm)))
"""
)

FACTS = """
import json, sysconfig
print(json.dumps({key: sysconfig.get_config_var(key) for key in ("LDSHARED", "LDCXXSHARED")}
                 | {"include": sysconfig.get_paths()["include"]}))
"""

GPU_FACTS = """
import json, torch
from torch.utils.cpp_extension import CUDA_HOME
print(json.dumps({"gpu": torch.cuda.is_available(), "home": CUDA_HOME, "cuda": torch.version.cuda}))
"""


def requirements(*names: str) -> list[str]:
    """The lines of requirement files, without comments."""
    lines: list[str] = []
    for name in names:
        for line in (REQUIREMENTS / f"{name}.txt").read_text().splitlines():
            if line.strip() and not line.lstrip().startswith("#"):
                lines.append(line.strip())
    return lines


def files(*names: str, flag: str = "-r") -> list[str]:
    """The arguments that hand requirement files (``-r``) or constraints (``-c``) to pip."""
    return [word for name in names for word in (flag, str(REQUIREMENTS / f"{name}.txt"))]


def environment() -> dict[str, str]:
    """What the steps' commands see: the caller's environment, with ``.venv`` active."""
    env = {key: value for key, value in os.environ.items() if key not in UNWANTED}
    env["PATH"] = f"{VENV / 'bin'}{os.pathsep}{env.get('PATH', os.defpath)}"
    env |= {"VIRTUAL_ENV": str(VENV), "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    env |= {"PIP_PROGRESS_BAR": "off", "PYTHONUNBUFFERED": "1"}
    return env


def pip_install(runner: Runner, *words: str, env: dict[str, str] | None = None) -> None:
    runner.run(PYTHON, "-m", "pip", "install", *words, env=env)


# --- the steps ---------------------------------------------------------------------------------


def make_venv(runner: Runner) -> str | None:
    wanted = "{}.{}".format(*sys.version_info[:2])
    works = 'import sys, pip; assert "{}.{}".format(*sys.version_info[:2]) == "' + wanted + '"'
    activate = VENV / "bin" / "activate"
    here = activate.exists() and str(VENV) in activate.read_text()  # not moved from elsewhere
    if here and PYTHON.exists() and runner.succeeds(PYTHON, "-c", works):
        return "the one that is there is kept"
    for item in VENV.iterdir():  # but not the state, which holds the lock
        if item == STATE:
            continue
        shutil.rmtree(item) if item.is_dir() and not item.is_symlink() else item.unlink()
    base = getattr(sys, "_base_executable", None) or sys.executable
    runner.run(base, "-m", "venv", VENV)
    return None


def install_builders(runner: Runner) -> None:
    pip_install(runner, *files("build"))


def check_compiler(runner: Runner) -> str:
    """Before the long steps: is there what the build of mmcv will need?"""
    if mmcv_is_installed():
        return f"{MMCV} is installed"
    if wheel_in_reach(runner):
        return f"not needed, pip finds a ready wheel of {MMCV}"
    if wheel_in_cache(runner):
        return f"not needed, pip's cache holds a wheel of {MMCV}"
    require_compiler(runner)
    return f"no ready wheel of {MMCV} found; its operators will be compiled ({COMPILING_TAKES})"


def install_torch(runner: Runner) -> None:
    pip_install(runner, *files("torch"), *files("constraints", "main", "build", flag="-c"))
    runner.run(
        PYTHON,
        "-c",
        TORCH_WORKS,
        advice="torch and torchvision do not fit. Both must come from the same place (the "
        "registry, or one index of torch's own): make clean-venv, and check PIP_INDEX_URL, "
        "PIP_EXTRA_INDEX_URL and PIP_FIND_LINKS.",
    )


def install_libraries(runner: Runner) -> None:
    # The two lists are a closure; --no-deps keeps the second OpenCV out (constraints.txt says why).
    if installed_version("opencv-python"):  # its removal takes files of the other's along
        both = ("opencv-python", "opencv-python-headless")
        runner.run(PYTHON, "-m", "pip", "uninstall", "-y", *both)
    pip_install(runner, "--no-deps", "--no-build-isolation", *files("main", "constraints"))


def install_mmcv(runner: Runner) -> str:
    torch_now = installed_version("torch")
    record = STATE / "mmcv-built-for.txt"
    same_torch = not record.exists() or record.read_text().strip() == torch_now
    hidden = hide_gpu()
    for how, words in ways_to_mmcv(runner, same_torch):
        if how == COMPILED:
            announce_build(runner)
        if words:
            common = ["--no-deps", "--no-build-isolation", "--force-reinstall", "-v"]
            pip_install(runner, *common, *words, *files("mmcv"), env=build_environment() | hidden)
        if runner.succeeds(PYTHON, "-c", MMCV_WORKS, env=hidden):
            record.write_text(f"{torch_now}\n")
            return how
        if how != COMPILED:
            runner.say(f"{how}: these operators do not work with this torch, trying the next way")
    raise StepFailed(
        "mmcv's operators were compiled, but do not work",
        "The log says why. make clean-venv starts afresh.",
        log=runner.log,
    )


def ways_to_mmcv(runner: Runner, same_torch: bool) -> Iterator[tuple[str, list[str]]]:
    """From the quickest to the surest: how, and pip's arguments for it (none: it is there).

    Args:
        same_torch: Whether the operators that lie about, installed or in pip's cache, were built
            for the torch that is there, as far as is known.
    """
    if same_torch and mmcv_is_installed():
        yield "was there", []
    if wheel_in_reach(runner):
        yield "a ready wheel", ["--only-binary", MMCV]
    cached = wheel_in_cache(runner)
    if cached and same_torch:
        yield "a wheel from pip's cache", ["--no-binary", MMCV]
    yield COMPILED, ["--no-binary", MMCV, *(["--no-cache-dir"] if cached else [])]


def install_project(runner: Runner) -> None:
    pip_install(runner, "--no-deps", "--no-build-isolation", "-e", str(ROOT))


def verify(runner: Runner) -> str:
    # The mmcv step has tried the GPU, or hidden it: here it is left alone.
    return runner.output(PYTHON, "-c", ALL_WORKS, env={"CUDA_VISIBLE_DEVICES": ""})


def plan() -> list[Step]:
    """The steps, in order. What each depends on stands in its inputs."""
    version = "{}.{}".format(*sys.version_info[:2])
    sources = [(ROOT / name).read_text() for name in ("pyproject.toml", "rarts_mm/version.py")]
    pinned = " and ".join(line.replace("==", " ") for line in requirements("torch"))
    return [
        Step(
            "venv",
            f"a virtual environment in .venv, Python {version}",
            [version, str(ROOT)],
            make_venv,
        ),
        Step("builders", "pip, setuptools, ninja", requirements("build"), install_builders),
        Step("compiler", "is a C++ compiler needed, and there?", [], check_compiler),
        Step(
            "torch",
            f"{pinned} (on Linux about 5 GB, with CUDA's libraries)",
            requirements("torch"),
            install_torch,
        ),
        Step(
            "libraries",
            "MMEngine, MMDetection, MMPretrain, timm, pycocotools and what they need",
            requirements("main", "constraints"),
            install_libraries,
        ),
        Step("mmcv", f"{MMCV} with its operators", requirements("mmcv"), install_mmcv),
        Step("project", "rarts_mm, as an editable install", [str(ROOT), *sources], install_project),
        Step("verify", "import everything, run an operator", [ALL_WORKS], verify),
    ]


# --- what the mmcv step asks -------------------------------------------------------------------


def site_packages() -> Path:
    scheme = {"base": str(VENV), "platbase": str(VENV)}
    return Path(
        sysconfig.get_path(
            "purelib", "venv" if "venv" in sysconfig.get_scheme_names() else "posix_prefix", scheme
        )
    )


def installed_version(distribution: str) -> str | None:
    for found in distributions(name=distribution, path=[str(site_packages())]):
        return found.version
    return None


def mmcv_is_installed() -> bool:
    return f"{MMCV}=={installed_version(MMCV)}" in requirements("mmcv")


def wheel_in_reach(runner: Runner) -> bool:
    """Would pip find a ready wheel on the registry or in PIP_FIND_LINKS?"""
    asked = ["--dry-run", "--no-deps", "--ignore-installed", "--only-binary", ":all:"]
    return runner.succeeds(PYTHON, "-m", "pip", "install", *asked, *files("mmcv"))


def wheel_in_cache(runner: Runner) -> bool:
    """Did pip build one before, on this machine and for this Python?"""
    tag = "-cp{}{}-".format(*sys.version_info[:2])
    asked = [PYTHON, "-m", "pip", "cache", "list", "--format=abspath", MMCV.replace("-", "_")]
    return runner.succeeds(*asked) and tag in runner.output(*asked)


def hide_gpu() -> dict[str, str]:
    if os.environ.get("MMCV_CPU", "0") in ("", "0"):
        return {}
    return {"CUDA_VISIBLE_DEVICES": "", "FORCE_CUDA": "0"}


def announce_build(runner: Runner) -> None:
    """Checks what a build from source needs, and says how long it takes.

    Raises:
        StepFailed: Without a compiler, or with a GPU and no CUDA toolkit.
    """
    require_compiler(runner)
    facts = json.loads(runner.output(PYTHON, "-c", GPU_FACTS, env=hide_gpu()))
    if facts["gpu"] and not (facts["home"] and shutil.which("nvcc", path=f"{facts['home']}/bin")):
        raise StepFailed(
            "torch sees a GPU, but there is no CUDA compiler (nvcc) to build mmcv's operators",
            f"Install the CUDA toolkit {facts['cuda']} and point CUDA_HOME to it,\n"
            "or build the operators for the CPU only (the GPU is hidden from mmcv's build, and "
            "detectors that use its operators run on the CPU): MMCV_CPU=1 make setup",
        )
    jobs = build_environment()["MAX_JOBS"]
    runner.say(f"compiling the operators, {jobs} at once: {COMPILING_TAKES}")
    runner.say("(a ready wheel is taken instead where PIP_FIND_LINKS names one)")


def require_compiler(runner: Runner) -> None:
    """Compiles a small extension the way mmcv will be compiled.

    Raises:
        StepFailed: If there is no working C++ compiler, or Python's headers are missing.
    """
    facts = json.loads(runner.output(PYTHON, "-c", FACTS))
    compiler = os.environ.get("CXX", "c++").split()
    found = shutil.which(compiler[0]) is not None
    source, target = STATE / "compiler-check.cpp", STATE / "compiler-check.so"
    source.write_text("#include <Python.h>\n#include <vector>\nstd::vector<int> check(3);\n")
    flags = ["-std=c++17", "-fPIC", "-shared", f"-I{facts['include']}"]
    flags += ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else []
    try:
        works = found and runner.succeeds(*compiler, *flags, source, "-o", target)
    finally:
        for file in (source, target):
            file.unlink(missing_ok=True)
    if not works:
        raise StepFailed(
            f"no working C++ compiler ({compiler[0]}), or Python's headers are missing; "
            f"{MMCV} must be compiled, as pip finds no ready wheel of it",
            NO_COMPILER,
            log=runner.log if found else None,
        )
    # Python links extensions with the compiler it was itself built with, unless told otherwise.
    for variable, setting in (("LDSHARED", "CC"), ("LDCXXSHARED", "CXX")):
        linker = (facts[variable] or "c++").split()[0]
        if shutil.which(linker) is None and setting not in os.environ:
            raise StepFailed(
                f"this Python was built with '{linker}', which is not there",
                f"Install {linker}, or name your own compilers: CC=gcc CXX=g++ make setup",
            )


def build_environment() -> dict[str, str]:
    """Settings of mmcv's build; the caller's own win or are kept."""
    jobs = str(max(1, min(cores(), int(free_memory() // (GIB_PER_COMPILER * 2**30)))))
    env = {"MMCV_WITH_OPS": "1", "MAX_JOBS": os.environ.get("MAX_JOBS", jobs)}
    for variable in ("CFLAGS", "CXXFLAGS"):  # most of the library would be debug information
        env[variable] = f"{os.environ.get(variable, '')} -g0".strip()
    return env


def cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_memory() -> float:
    """Bytes that compilers may use: what is available, within a container's limit."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvail"))
    except (OSError, StopIteration):
        return 8.0 * 2**30
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and limit.read_text().strip().isdigit():
        free = min(free, int(limit.read_text()))
    return float(free)


# --- before the steps --------------------------------------------------------------------------


def half_installed(site: Path) -> Iterator[Path]:
    """What an interrupted pip left: records of packages that are not whole, and moved-away folders.

    pip writes INSTALLER and RECORD last. Without this, it would take such a package for installed.
    """
    if site.is_dir():
        for folder in site.glob("*.dist-info"):
            if not ((folder / "INSTALLER").exists() and (folder / "RECORD").exists()):
                yield folder
        yield from (path for path in site.glob("~*") if path.is_dir())


def python_works() -> bool:
    """Does the environment's interpreter run? (It is a link to one that may have gone.)"""
    try:
        return subprocess.run([PYTHON, "-I", "-S", "-c", ""], check=False).returncode == 0
    except OSError:
        return False


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main(steps: Sequence[Step] | None = None) -> int:
    """Does what is left of ``steps`` (default: the plan above); returns the exit status."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        print(
            "set-up needs Python {}.{} to {}.{}; this is {}.{} ({})".format(
                *OLDEST, *NEWEST, *sys.version_info[:2], sys.executable
            ),
            file=sys.stderr,
        )
        return 2
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        steps = plan() if steps is None else steps
        with lock(STATE / "lock") as held:
            if not pending(steps, STATE) and python_works():
                print(f"set-up: nothing to do ({VENV.name} is ready)")
                return 0
            if not python_works():
                forget(steps, STATE)
            for path in list(half_installed(site_packages())):
                shutil.rmtree(path)
            perform(steps, STATE, ROOT, environment(), hints=HINTS, inherit=(held,))
            print("set-up: ready")
            return 0
    except StepFailed as error:
        print(explain(error, ROOT), file=sys.stderr)
        return 1
    except KeyboardInterrupt as stopped:
        step = getattr(stopped, "step", None)
        where = f" in step '{step}'" if step else ""
        print(
            f"\nset-up interrupted{where}; finished steps are kept: repeat the command to go on",
            file=sys.stderr,
        )
        return 130


if __name__ == "__main__":
    sys.exit(main())
