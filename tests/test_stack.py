"""Wrong mixes of libraries, as metadata (pure function), as import errors, and for real."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from rarts_mm.stack import StackError, check_stack, failures, findings

ROOT = Path(__file__).resolve().parent.parent
GOOD = {
    "torch": "2.11.0",
    "torchvision": "0.26.0",
    "onedl-mmengine": "0.10.12",
    "onedl-mmcv": "2.3.6",
    "onedl-mmdetection": "3.5.1",
    "onedl-mmpretrain": "1.3.6",
}
NEEDS = ("numpy", "torch (==2.11.0)", 'gdown>=4.7.3; extra == "gdown"')


def without(*names):
    return {name: version for name, version in GOOD.items() if name not in names}


def test_this_environment_fits():
    check_stack()


@pytest.mark.parametrize(
    "installed",
    [
        GOOD,
        GOOD | {"torch": "2.11.0+cpu", "torchvision": "0.26.0+cpu"},
        # The registry's torchvision has no local version: the import must decide.
        GOOD | {"torch": "2.11.0+cu130"},
        # A build of one's own, whose version is no version.
        GOOD | {"torch": "mine"},
        GOOD | {"mmcls": "0.25.0"},
    ],
)
def test_a_fitting_set_has_no_findings(installed):
    assert findings(installed, NEEDS) == []


@pytest.mark.parametrize(
    ("original", "ours"),
    [
        ("mmcv", "onedl-mmcv"),
        ("mmcv-full", "onedl-mmcv"),
        ("mmcv-lite", "onedl-mmcv"),
        ("mmengine", "onedl-mmengine"),
        ("mmengine-lite", "onedl-mmengine"),
        ("mmdet", "onedl-mmdetection"),
        ("mmpretrain", "onedl-mmpretrain"),
    ],
)
def test_an_original_beside_or_instead_of_its_continuation(original, ours):
    (beside,) = findings(GOOD | {original: "1.2.3"}, NEEDS)
    assert f"{original} 1.2.3 beside {ours}" in beside.problem
    # Both share files: taking one away breaks the other, so both go and ours comes anew.
    assert f"pip uninstall -y {original} {ours}, then pip install" in beside.remedy

    (instead,) = findings(without(ours) | {original: "1.2.3"}, NEEDS)
    assert f"{original} 1.2.3 is the original" in instead.problem
    assert ours in instead.problem
    assert f"pip uninstall -y {original}, then pip install" in instead.remedy


@pytest.mark.parametrize(
    ("torch", "torchvision", "needs", "problem"),
    [
        ("2.10.0", "0.26.0", NEEDS, "built for torch ==2.11.0, but torch 2.10.0"),
        ("2.12.0a0+git1", "0.26.0", NEEDS, "but torch 2.12.0a0+git1"),
        ("2.11.0+cpu", "0.26.0+cu130", NEEDS, r"different builds (+cpu and +cu130)"),
        ("2.11.0+cpu", "0.26.0", ("torch==2.11.0+cu130",), "built for torch ==2.11.0+cu130"),
    ],
)
def test_torch_and_torchvision_that_do_not_fit(torch, torchvision, needs, problem):
    (finding,) = findings(GOOD | {"torch": torch, "torchvision": torchvision}, needs)
    assert problem in finding.problem
    assert "pip install" in finding.remedy


@pytest.mark.parametrize("names", [("torch",), ("torchvision",), ("torch", "torchvision")])
def test_missing_torch(names):
    (finding,) = findings(without(*names), NEEDS)
    assert finding.problem.startswith(" and ".join(names))
    assert "not installed" in finding.problem
    assert "torch==2.11.0 torchvision==0.26.0" in finding.remedy


def test_missing_library_unless_its_module_is_on_the_path():
    (finding,) = findings(without("onedl-mmdetection"), NEEDS)
    assert finding.problem == "onedl-mmdetection is not installed"
    assert findings(without("onedl-mmdetection"), NEEDS, modules=["mmdet"]) == []


def test_every_finding_is_listed():
    installed = without("onedl-mmpretrain") | {"mmcv": "2.2.0", "torch": "2.4.1"}
    problems = [finding.problem for finding in findings(installed, NEEDS)]
    assert len(problems) == 3
    assert ["torchvision" in problems[0], "mmcv 2.2.0" in problems[1], "mmpretrain" in problems[2]]


def loader(operators=True, **broken):
    """An import function: torch with or without torchvision's operators, and given errors."""
    names = SimpleNamespace(nms=None) if operators else SimpleNamespace()
    torch = SimpleNamespace(__version__="2.11.0", ops=SimpleNamespace(torchvision=names))

    def load(name):
        if name in broken:
            raise broken[name]
        return torch

    return load


@pytest.mark.parametrize(
    ("load", "problem", "remedy"),
    [
        (loader(torch=OSError("libcudart.so.13: cannot open")), "torch does not load", "torch=="),
        (
            loader(torchvision=RuntimeError("operator torchvision::nms does not exist")),
            "torchvision's operators do not load with torch 2.11.0: RuntimeError: operator",
            "same place",
        ),
        (loader(operators=False), "torchvision's operators do not load", "same place"),
        (
            loader(mmcv=ImportError("libGL.so.1: cannot open shared object file")),
            "mmcv does not load: ImportError: libGL.so.1",
            "opencv-python-headless",
        ),
        (
            loader(**{"mmcv._ext": ModuleNotFoundError("No module", name="mmcv._ext")}),
            "no compiled operators",
            "--no-cache-dir",
        ),
        (
            loader(**{"mmcv._ext": ImportError("undefined symbol: _ZN3c10\nmore")}),
            "mmcv's operators do not load with torch 2.11.0: ImportError: undefined symbol",
            "--no-binary onedl-mmcv",
        ),
    ],
)
def test_compiled_parts_that_do_not_load(load, problem, remedy):
    (finding,) = failures(load)
    assert problem in finding.problem
    assert "\n" not in finding.problem
    assert remedy in finding.remedy


def test_compiled_parts_that_load():
    assert failures(loader()) == []


# --- for real: a folder of fakes before the environment's packages, in a process of its own -----


def distribution(site, name, version, *requires):
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {text}" for text in requires]
    (folder / "METADATA").write_text("\n".join(lines) + "\n")


def import_package(site):
    env = os.environ | {"PYTHONPATH": f"{site}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    code = (
        "import sys\ntry:\n    import rarts_mm.apis\nexcept ImportError as error:\n"
        "    print(type(error).__name__, error)\n    print('torch' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    return result.stdout


def test_import_reports_all_mixes_at_once_and_imports_nothing_heavy(tmp_path):
    distribution(tmp_path, "mmcv", "2.2.0")
    distribution(tmp_path, "mmdet", "3.3.0")
    distribution(tmp_path, "torchvision", "0.19.0", "torch (==2.4.0)")
    said = import_package(tmp_path)
    assert said.startswith(StackError.__name__)
    assert "mmcv 2.2.0 beside onedl-mmcv" in said
    assert "mmdet 3.3.0 beside onedl-mmdetection" in said
    assert "torchvision 0.19.0 was built for torch ==2.4.0" in said
    assert said.count("->") == 3
    assert said.endswith("False\n")


def test_import_reports_mmcv_without_operators(tmp_path):
    (tmp_path / "mmcv").mkdir()
    (tmp_path / "mmcv" / "__init__.py").write_text("__version__ = '2.3.6'\n")
    said = import_package(tmp_path)
    assert said.startswith(StackError.__name__)
    assert "`mmcv._ext` is missing" in said


@pytest.mark.slow
def test_import_reports_operators_of_another_torch(tmp_path):
    (tmp_path / "mmcv").mkdir()
    (tmp_path / "mmcv" / "__init__.py").write_text("")
    suffix = ".cpython-{}{}-x86_64-linux-gnu.so".format(*sys.version_info[:2])
    (tmp_path / "mmcv" / f"_ext{suffix}").write_bytes(b"not a library")
    (tmp_path / "mmcv" / "_ext.abi3.so").write_bytes(b"not a library")
    said = import_package(tmp_path)
    assert "mmcv's operators do not load with torch" in said
    assert "built for another torch" in said


def test_import_reports_a_torchvision_without_operators(tmp_path):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')\n"
    )
    said = import_package(tmp_path)
    assert "torchvision's operators do not load" in said
    assert "operator torchvision::nms does not exist" in said


LIBRARIES = ("mmcv", "mmdet", "mmpretrain", "torchvision", "timm", "scipy", "matplotlib", "cv2")


def test_searching_and_pruning_need_torch_and_mmengine_alone():
    code = f"""
import sys
sys.modules.update(dict.fromkeys({LIBRARIES}))
import rarts_mm
assert "torch" not in sys.modules
import torch, rarts_mm.search, rarts_mm.widths, rarts_mm.cells
from torch import nn
network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3))
x = torch.randn(1, 3, 9, 9)
print(rarts_mm.prune(network, x, 0.5).widths)
search = rarts_mm.Search(
    network, lambda model, batch: model(batch).square().mean(), inputs=x,
    optimizer=lambda params: torch.optim.SGD(params, lr=0.1),
)
search.step(torch.cat([x, x]), torch.cat([x, x]))
print(search.prune(0.5).widths)
try:
    rarts_mm.models
except ImportError as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    first, second, *said = done.stdout.splitlines()
    assert first == second == "{'0': 4}"
    assert said[0].startswith(StackError.__name__)
    assert any("mmcv" in line or "torchvision" in line for line in said)
