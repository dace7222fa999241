"""Do the installed libraries fit together? Asked once, when what is built on them is imported.

torch, torchvision and mmcv come in builds that look alike and do not mix, and the ``onedl-*``
packages install the same modules as the originals that they continue. What then goes wrong shows
far from its cause (an operator that does not exist, a symbol not found): here it gets its name.
"""

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

# Distribution -> module, of the libraries that this package works with, ...
MAINTAINED = {
    "onedl-mmengine": "mmengine",
    "onedl-mmcv": "mmcv",
    "onedl-mmdetection": "mmdet",
    "onedl-mmpretrain": "mmpretrain",
}
# ... and of the originals, which install modules of the same names.
ORIGINALS = {
    "mmengine": "mmengine",
    "mmengine-lite": "mmengine",
    "mmcv": "mmcv",
    "mmcv-full": "mmcv",
    "mmcv-lite": "mmcv",
    "mmdet": "mmdet",
    "mmpretrain": "mmpretrain",
}
INSTALL_MMCV = "pip install --no-build-isolation onedl-mmcv (needs torch, ninja, a C++ compiler)"
INSTALL_TORCH = "pip install torch==2.11.0 torchvision==0.26.0"


class StackError(ImportError):
    """The installed libraries do not fit together; the message lists each finding and remedy."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, and what to do about it."""

    problem: str
    remedy: str


def findings(
    installed: Mapping[str, str],
    torchvision_requires: Sequence[str] = (),
    modules: Sequence[str] = (),
) -> list[Finding]:
    """What is wrong with a set of installed distributions, as far as their metadata tell.

    Args:
        installed: Distribution name (lower case, with hyphens) -> version.
        torchvision_requires: The requirement strings in torchvision's metadata.
        modules: Modules that can be imported although no distribution of ours brings them (a
            source tree on the path): these do not count as missing.

    Returns:
        The findings, in the order in which they should be mended.
    """
    found = _torch_findings(installed, torchvision_requires, modules)
    for ours, module in MAINTAINED.items():
        found += _library_findings(installed, ours, module, module in modules)
    return found


def _torch_findings(
    installed: Mapping[str, str], torchvision_requires: Sequence[str], modules: Sequence[str]
) -> list[Finding]:
    missing = [n for n in ("torch", "torchvision") if n not in installed and n not in modules]
    if missing:
        return [
            Finding(
                f"{' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} not installed",
                f"{INSTALL_TORCH} (both from the same place), or let `make setup` do everything",
            )
        ]
    if not {"torch", "torchvision"} <= set(installed):
        return []
    torch, torchvision = installed["torch"], installed["torchvision"]
    wanted = _wanted_torch(torchvision_requires)
    try:
        fits = wanted is None or wanted.specifier.contains(Version(torch), prereleases=True)
        builds = Version(torch).local, Version(torchvision).local
    except InvalidVersion:  # a build of one's own; the import will tell
        return []
    if not fits:
        return [
            Finding(
                f"torchvision {torchvision} was built for torch {wanted.specifier}, "
                f"but torch {torch} is installed",
                f"install the pair that belongs together, for example {INSTALL_TORCH}; "
                "then build mmcv anew (its operators belong to one torch)",
            )
        ]
    if None not in builds and builds[0] != builds[1]:
        return [
            Finding(
                f"torch {torch} and torchvision {torchvision} are different builds "
                f"(+{builds[0]} and +{builds[1]})",
                "install both from the same index: pip install --force-reinstall "
                f"torch=={Version(torch).public} torchvision=={Version(torchvision).public} "
                "--index-url ...",
            )
        ]
    return []


def _wanted_torch(requires: Sequence[str]) -> Requirement | None:
    for text in requires:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.name.lower() == "torch" and (
            requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        ):
            return requirement
    return None


def _library_findings(
    installed: Mapping[str, str], ours: str, module: str, present: bool
) -> list[Finding]:
    install = INSTALL_MMCV if module == "mmcv" else f"pip install {ours}"
    originals = [n for n, its in ORIGINALS.items() if its == module and n in installed]
    named = " and ".join(f"{name} {installed[name]}" for name in originals)
    if originals and ours in installed:
        return [
            Finding(
                f"{named} beside {ours} {installed[ours]}: both install the module "
                f"`{module}` and overwrite each other's files",
                # Taking one away takes shared files with it, so the other must come anew.
                f"pip uninstall -y {' '.join(originals)} {ours}, then {install}",
            )
        ]
    if originals:
        return [
            Finding(
                f"{named} is the original, which is no longer maintained and does not work with "
                f"this torch; this package works with its continuation {ours}",
                f"pip uninstall -y {' '.join(originals)}, then {install}",
            )
        ]
    if ours not in installed and not present:
        return [Finding(f"{ours} is not installed", install)]
    return []


def failures(load: Callable[[str], object] = importlib.import_module) -> list[Finding]:
    """What is wrong with the compiled parts, found by importing them in order of dependence.

    Args:
        load: Imports a module by name (another one in tests).

    Returns:
        At most one finding: a part that does not load keeps those after it from loading.
    """
    try:
        torch = load("torch")
    except (ImportError, OSError) as error:
        return [
            Finding(f"torch does not load: {_short(error)}", f"install it anew: {INSTALL_TORCH}")
        ]
    try:
        load("torchvision")
        torch.ops.torchvision.nms  # noqa: B018 - raises where the operators are not there
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return [
            Finding(
                f"torchvision's operators do not load with torch {torch.__version__}: "
                f"{_short(error)}",
                "torch and torchvision come from different places or belong to different "
                f"versions; take both from the same place: {INSTALL_TORCH} --force-reinstall",
            )
        ]
    try:
        load("mmcv")
    except (ImportError, OSError) as error:
        return [
            Finding(
                f"mmcv does not load: {_short(error)}",
                "install what it misses (libGL: pip install --force-reinstall "
                "opencv-python-headless), or mmcv anew: " + INSTALL_MMCV,
            )
        ]
    try:
        load("mmcv._ext")
    except ModuleNotFoundError:
        return [
            Finding(
                "mmcv has no compiled operators (`mmcv._ext` is missing): it was built without "
                "torch, or is a lite build",
                f"pip uninstall -y onedl-mmcv, then {INSTALL_MMCV} with --no-cache-dir",
            )
        ]
    except (ImportError, OSError) as error:
        return [
            Finding(
                f"mmcv's operators do not load with torch {torch.__version__}: {_short(error)}",
                "they were built for another torch; build them anew: pip install --force-reinstall "
                "--no-deps --no-cache-dir --no-binary onedl-mmcv --no-build-isolation onedl-mmcv",
            )
        ]
    return []


def _short(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:300] if text else ''}"


@cache
def check_stack() -> None:
    """Raises a :class:`StackError` that lists every finding, if there is one.

    Metadata are asked first, which costs milliseconds; the libraries themselves are imported (as
    who asks does anyway) only when those are in order.
    """
    installed = {}
    for name in ("torch", "torchvision", *MAINTAINED, *ORIGINALS):
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    requires = metadata.requires("torchvision") or () if "torchvision" in installed else ()
    names = ("torch", "torchvision", *MAINTAINED.values())
    modules = [name for name in names if importlib.util.find_spec(name) is not None]
    found = findings(installed, requires, modules) or failures()
    if found:
        lines = [f"\n  {i}. {f.problem}\n     -> {f.remedy}" for i, f in enumerate(found, 1)]
        raise StackError("the installed libraries do not fit together:" + "".join(lines))
