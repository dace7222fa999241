"""Classes that are folders: a data set numbers them by their place, so that all must have the same ones."""

from pathlib import Path

from mmengine.config import Config

from rarts_mm.files import is_remote

from .annotations import dataset_class, leaf_datasets
from .backends import reads_images_locally, reads_locally
from .configs import prepare_registries
from .errors import UsageError


def check_class_folders(cfg: Config, phases: tuple[str, ...]) -> None:
    """Raise if the data sets of the phases have different class folders.

    MMPretrain's ``CustomDataset`` numbers the folders as they are sorted: where one is missing, every
    class behind it would be taken for its neighbour.

    Raises:
        UsageError: names the first two places that differ, and the folders.
    """
    known: tuple[str, Path, list[str]] | None = None
    for phase in phases:
        loader = cfg.get(f"{phase}_dataloader")
        if not loader:
            continue
        for place, dataset in leaf_datasets(loader["dataset"], f"{phase}_dataloader.dataset"):
            root = _root_of_classes(cfg, dataset)
            if root is None or not root.is_dir():
                continue
            classes = sorted(each.name for each in root.iterdir() if each.is_dir())
            if known is None:
                known = place, root, classes
            elif classes != known[2]:
                raise UsageError(_message(known, (place, root, classes)))


def _root_of_classes(cfg: Config, dataset: dict) -> Path | None:
    """The folder whose folders are the data set's classes, if they are, and on this machine."""
    if dataset.get("ann_file") or not dataset.get("with_label", True):
        return None
    prepare_registries(cfg)
    if not hasattr(dataset_class(dataset), "_find_samples"):
        return None
    prefix = dataset.get("data_prefix") or ""
    prefix = prefix.get("img_path", "") if isinstance(prefix, dict) else prefix
    root = dataset.get("data_root") or ""
    if is_remote(root) or is_remote(prefix):
        return None
    if not (reads_locally(dataset) and reads_images_locally(dataset)):
        return None
    return Path(root) / prefix


def _message(first: tuple[str, Path, list[str]], second: tuple[str, Path, list[str]]) -> str:
    lines = []
    for (_, root, classes), (_, _, others) in ((second, first), (first, second)):
        if lacking := [name for name in others if name not in classes]:
            more = f" and {len(lacking) - 6} more" * (len(lacking) > 6)
            lines.append(f"  {root} has no {', '.join(map(repr, lacking[:6]))}{more}")
    return "\n".join(
        [
            f"{first[0]} and {second[0]} have different classes:",
            *lines,
            "  A class's number is its folder's place, so that labels would be exchanged. Add the folder, "
            "even an empty one, or remove what is no class",
        ]
    )
