"""Makes ``.venv``, the environment of ``make demo`` and ``make test``, by uv (standard library only).

    python3.11 tools/setup_env.py

Versions are pinned in ``requirements/``. With nothing to do it takes a fraction of a second; interrupted, the
same command goes on. ``PIP_FIND_LINKS`` names a folder with ready wheels (of onedl-mmcv, whose build takes 12
minutes on two cores), ``PIP_INDEX_URL`` a mirror, ``MMCV_CPU=1`` hides a GPU from that build.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV, LISTS = ROOT / ".venv", ROOT / "requirements"
PYTHON, STAMP = VENV / "bin" / "python", VENV / "ready"
UV = "uv==0.13.9"
VERSION = "{}.{}".format(*sys.version_info[:2])
WORKS = """import torch, torchvision, mmengine, mmcv, mmdet, mmpretrain, timm, pycocotools.mask, rarts_mm
from mmcv.ops import nms
boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.9], [5.0, 5.0, 6.0, 6.0]])
for operator in (nms, lambda *a: (0, torchvision.ops.nms(*a))):
    assert operator(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5)[1].tolist() == [1, 2]"""
NO_COMPILER = f"""error: no working C++ compiler, or no headers of Python {VERSION}; pip finds no ready wheel of \
onedl-mmcv, so that it must be compiled. Install them (Debian, Ubuntu: sudo apt install g++ python{VERSION}-dev; \
Fedora: sudo dnf install gcc-c++ python{VERSION}-devel; macOS: xcode-select --install), or name a folder with a \
wheel: PIP_FIND_LINKS=/folder make setup"""
BUILDING = """Where torch sees a GPU, the build takes a CUDA toolkit of torch's version (CUDA_HOME), or leaves the GPU \
out: MMCV_CPU=1 make setup. Out of memory: MAX_JOBS=1 make setup.
"""


def environment() -> dict[str, str]:
    """The caller's, without what would send packages elsewhere, and with pip's settings told to uv."""
    unwanted = ("PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT")
    env = {key: value for key, value in os.environ.items() if key not in unwanted}
    env |= {"VIRTUAL_ENV": str(VENV), "PATH": f"{VENV / 'bin'}:{env.get('PATH', os.defpath)}"}
    for ours, theirs in (
        ("PIP_FIND_LINKS", "UV_FIND_LINKS"),
        ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"),
        ("PIP_CERT", "SSL_CERT_FILE"),
    ):
        if ours in env:
            env.setdefault(theirs, ",".join(env[ours].split()))
    env |= {"UV_LINK_MODE": env.get("UV_LINK_MODE", "copy"), "MMCV_WITH_OPS": "1"}
    # A compiler takes 2 GiB; most of what it writes would be debug information.
    limit, memory = (
        Path("/sys/fs/cgroup/memory.max"),
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    )
    if limit.is_file() and (bound := limit.read_text().strip()).isdigit():
        memory = min(memory, int(bound))
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    env.setdefault("MAX_JOBS", str(max(1, min(cores, memory >> 31))))
    env |= {flags: f"{env.get(flags, '')} -g0".strip() for flags in ("CFLAGS", "CXXFLAGS")}
    return env | (
        {"CUDA_VISIBLE_DEVICES": "", "FORCE_CUDA": "0"}
        if env.get("MMCV_CPU", "0") not in ("", "0")
        else {}
    )


def run(*command: object, check: bool = True, advice: str = "", **kwargs: object) -> bool:
    words = [str(word) for word in command]
    done = subprocess.run(words, env=environment(), check=False, cwd=ROOT, **kwargs)
    if check and done.returncode:
        sys.exit(
            f"error: set-up stopped at: {' '.join(words)}\n{advice}Repeat the command to go on."
        )
    return done.returncode == 0


def lists(*names: str, flag: str = "-r") -> list[object]:
    return [word for name in names for word in (flag, LISTS / f"{name}.txt")]


def can_compile() -> bool:
    compiler = shutil.which((os.environ.get("CXX") or "c++").split()[0])
    return bool(compiler) and Path(sysconfig.get_paths()["include"], "Python.h").is_file()


def install() -> None:
    same = f"import sys, pip; assert '{VERSION}' == '{{}}.{{}}'.format(*sys.version_info[:2])"
    if not (PYTHON.exists() and run(PYTHON, "-c", same, check=False, capture_output=True)):
        shutil.rmtree(VENV, ignore_errors=True)
        run(getattr(sys, "_base_executable", None) or sys.executable, "-m", "venv", VENV)
    run(PYTHON, "-m", "pip", "install", "-q", UV, *lists("build"))
    mmcv = (PYTHON, "-m", "pip", "install", "--no-deps", "--no-build-isolation")
    dry = (*mmcv, "--dry-run", "--only-binary", ":all:", *lists("mmcv"))
    if not run(*dry, check=False, capture_output=True) and not can_compile():
        sys.exit(NO_COMPILER)
    add = (VENV / "bin" / "uv", "pip", "install")
    run(*add, *lists("torch"), *lists("constraints", "main", "build", flag="-c"))
    # A closure; without dependencies, as two of them ask for two OpenCVs with the same files.
    run(*add, "--no-deps", "--no-build-isolation", *lists("main", "constraints"))
    print(
        "set-up: onedl-mmcv, whose operators are compiled where there is no ready wheel", flush=True
    )
    run(*mmcv, *lists("mmcv"), advice=BUILDING)
    run(*add, "--no-deps", "--no-build-isolation", "-e", ROOT)
    if not run(PYTHON, "-c", WORKS, check=False, capture_output=True):
        # Operators of another torch, from a wheel or pip's cache.
        anew = ("--force-reinstall", "--no-cache-dir", "--no-binary", "onedl-mmcv")
        run(*mmcv, *anew, *lists("mmcv"), advice=BUILDING)
        run(PYTHON, "-c", WORKS)


def main() -> None:
    if not (3, 10) <= sys.version_info[:2] <= (3, 12):
        sys.exit(f"error: set-up needs Python 3.10 to 3.12; {sys.executable} is {VERSION}")
    sources = [*sorted(LISTS.glob("*.txt")), ROOT / "pyproject.toml", Path(__file__)]
    text = "".join([VERSION, str(ROOT), *(path.read_text() for path in sources)])
    wanted = hashlib.sha256(text.encode()).hexdigest()
    with open(ROOT / ".setup.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if STAMP.is_file() and STAMP.read_text() == wanted and PYTHON.exists():
            print(f"set-up: nothing to do ({VENV.name} is ready)")
            return
        STAMP.unlink(missing_ok=True)
        install()
        STAMP.write_text(wanted)
        print("set-up: ready")


if __name__ == "__main__":
    main()
