"""What the package imports, it requires."""

import ast
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from setuptools.compat.py310 import tomllib

ROOT = Path(__file__).parents[1]
# Their builds depend on the machine, so that users bring them: see pyproject.toml and rarts_mm/stack.py.
BROUGHT = {"torch", "torchvision", "onedl-mmcv"}
# mmcv requires OpenCV, in one of the distributions that install cv2.
THROUGH_OTHERS = {"cv2": "onedl-mmcv"}


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> tuple[set[str], set[str]]:
    """Distributions that pyproject.toml requires always, and in its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    always, extras = project["dependencies"], dict(project["optional-dependencies"])
    extras.pop("dev")
    return tuple(
        {normalised(Requirement(r).name) for r in group}
        for group in (always, [r for rs in extras.values() for r in rs])
    )


def imports(path: Path) -> list[tuple[str, bool]]:
    """Modules that a file imports, by their top name, and whether on its own import."""
    tree = ast.parse(path.read_text())
    later = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    found = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names = [a.value for a in node.args if isinstance(a, ast.Constant)]
        found += [(name.partition(".")[0], id(node) not in later) for name in names]
    own = {*sys.stdlib_module_names, "rarts_mm", *(p.stem for p in path.parent.glob("*.py"))}
    return [(name, at_once) for name, at_once in found if name not in own]


@pytest.mark.parametrize("folder", ["rarts_mm", "tools"])
def test_every_import_is_of_something_required(folder):
    distributions = metadata.packages_distributions()
    always, extras = declared()
    seen, missing = set(), []
    for path in sorted((ROOT / folder).rglob("*.py")):
        for module, at_once in imports(path):
            brings = distributions.get(module, [module])
            brings = [*brings, THROUGH_OTHERS.get(module, module)]
            names = {normalised(name) for name in brings}
            seen.add(module)
            allowed = always | BROUGHT | (set() if at_once else extras)
            if not names & allowed:
                missing.append(f"{path.relative_to(ROOT)}: {module} ({', '.join(sorted(names))})")
    assert not missing, "imported and not in pyproject.toml"
    assert "torch" in seen or folder == "tools"


def test_what_is_pinned_covers_what_is_required():
    """requirements/main.txt names what is used directly; a new requirement belongs there too."""
    always, _ = declared()
    lines = (ROOT / "requirements/main.txt").read_text().splitlines()
    pinned = {normalised(Requirement(x).name) for x in lines if x and not x.startswith("#")}
    assert always <= pinned
