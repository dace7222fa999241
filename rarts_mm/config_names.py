"""Configs that are named by the package that ships them: ``rarts_mm::configs/sidt_swin_t_coco.py``.

MMEngine insists on a slash behind the colons, hence the folder.
"""

import difflib
from importlib.util import find_spec
from pathlib import Path

from mmengine.config.utils import MODULE2PACKAGE

# For `_base_ = "rarts_mm::..."`: MMEngine looks for the package of a scope here.
MODULE2PACKAGE.setdefault("rarts_mm", "rarts_mm")


def shipped(package: str) -> Path:
    """The folder with the configs that a package ships."""
    try:
        spec = find_spec(package) if package.isidentifier() else None
    except (ImportError, ValueError):
        spec = None
    folder = None if spec is None or spec.origin is None else Path(spec.origin).parent
    if folder is None or not (folder / ".mim" / "configs").is_dir():
        raise ValueError(f"there is no installed package {package!r} that ships configs")
    return folder / ".mim" / "configs"


def find_config(name: str) -> str:
    """The path of a config: as it is given, or of one that a package ships.

    Args:
        name: a path, or ``PACKAGE::PATH`` with the path seen from the package's configs;
            ``mmdet::retinanet/retinanet_r50_fpn_1x_coco.py``.

    Raises:
        ValueError: no such package, or no such config in it; with the nearest names.
    """
    package, separator, inside = name.partition("::")
    if not separator:
        return name
    folder = shipped(package)
    path = folder / inside
    if not path.is_file() and "/" not in inside:
        path = folder / "configs" / inside
    if not path.is_file():
        known = [each.relative_to(folder).as_posix() for each in folder.rglob("*.py")]
        near = difflib.get_close_matches(inside, known, n=3, cutoff=0.5)
        text = f"; near it are {', '.join(near)}" if near else ""
        raise ValueError(f"{package} ships no config {inside!r}{text}")
    return str(path)
