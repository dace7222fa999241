"""Checks before anything is built: are the files there and whole, is the folder free?"""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from mmengine.config import Config

from rarts_mm.engine import last_saved
from rarts_mm.files import is_remote

from .annotations import check_annotation_files, evaluator_files, leaf_datasets
from .backends import reads_images_locally, reads_locally
from .class_folders import check_class_folders
from .errors import UsageError


def _dataset_paths(dataset: dict) -> Iterator[Path]:
    """Files and folders of this machine that a data set reads."""
    root = dataset.get("data_root") or ""
    if is_remote(root):
        return
    parts = []
    if reads_locally(dataset):
        parts.append(dataset.get("ann_file") or "")
    if local_images := reads_images_locally(dataset):
        prefixes = dataset.get("data_prefix") or {}
        parts += list(prefixes.values()) if isinstance(prefixes, dict) else [prefixes]
    parts = [p for p in parts if isinstance(p, str) and p]
    if root and not parts and local_images and reads_locally(dataset):
        parts = [""]
    for part in parts:
        path = Path(part) if Path(part).is_absolute() else Path(root) / part
        if not is_remote(str(part)):
            yield path


def missing_files(cfg: Config, phases: tuple[str, ...] = ("train", "val")) -> dict[Path, str]:
    """Paths that a run reads and that are not there, each with the role it plays."""
    missing: dict[Path, str] = {}
    for phase in phases:
        loader = cfg.get(f"{phase}_dataloader")
        if not loader:
            continue
        for _, dataset in leaf_datasets(loader["dataset"], ""):
            # A data set that downloads itself needs no file beforehand.
            if dataset.get("download"):
                continue
            for path in _dataset_paths(dataset):
                if not path.exists():
                    missing.setdefault(path, f"{phase}ing data" if phase == "train" else "data")
        for path in evaluator_files(cfg, phase):
            if not path.exists():
                missing.setdefault(path, "data")
    checkpoint = cfg.get("load_from")
    if checkpoint and not is_remote(checkpoint) and not Path(checkpoint).is_file():
        role = "--resume" if cfg.get("resume") else "load_from"
        missing[Path(checkpoint)] = f"checkpoint ({role})"
    return missing


def check_files(cfg: Config, phases: tuple[str, ...] = ("train", "val")) -> None:
    """Raise if data or the checkpoint to start from is missing, or annotations or class folders make no sense.

    Called before anything is built.

    The config's ``how_to_get``, a dict from path (of the file, or a folder it is in) to a sentence, adds how to get
    each.
    """
    missing = missing_files(cfg, phases)
    if not missing:
        check_annotation_files(cfg, phases)
        check_class_folders(cfg, phases)
        return
    lines = []
    hints = {str(Path(k)): v for k, v in (cfg.get("how_to_get") or {}).items()}
    told = set()
    for path, role in missing.items():
        lines.append(f"  {role}: {path} (expected at {path.absolute()})")
        for start, sentence in hints.items():
            if Path(path).is_relative_to(start):
                told.add(sentence)
    lines += [f"  {sentence}" for sentence in sorted(told)]
    if not told:
        lines.append(
            "  Put the files there, or name another place with --cfg-options, for example "
            "train_dataloader.dataset.data_root=PATH or load_from=PATH. What is read through another "
            "storage backend (backend_args) is not looked at"
        )
    raise UsageError("files are missing:\n" + "\n".join(lines))


def require_test(cfg: Config) -> None:
    """Raise unless a config says what to test on, and how."""
    parts = ("test_dataloader", "test_cfg", "test_evaluator")
    if absent := [part for part in parts if cfg.get(part) is None]:
        raise UsageError(
            f"the config has no {' and no '.join(absent)}, so there is nothing to test with; add what is "
            "missing. To test on the validation data: test_dataloader = val_dataloader, "
            "test_cfg = dict(type='TestLoop'), test_evaluator = val_evaluator"
        )


def check_metrics(cfg: Config, phases: tuple[str, ...]) -> None:
    """Raise if a metric needs a package that is not installed; mmdet would only warn, and fail late."""
    for phase in phases:
        evaluators = cfg.get(f"{phase}_evaluator") or []
        for metric in evaluators if isinstance(evaluators, list | tuple) else [evaluators]:
            kind = metric.get("type", "") if isinstance(metric, dict) else ""
            kind = kind if isinstance(kind, str) else kind.__name__
            if kind.rpartition(".")[2] != "FasterCocoMetric" or find_spec("faster_coco_eval"):
                continue
            raise UsageError(
                f"{phase}_evaluator.type={kind!r} needs the package faster_coco_eval, which is not "
                "installed: pip install faster-coco-eval, or take type='CocoMetric'"
            )


def check_work_dir(work_dir: str | Path, resume: bool) -> None:
    """Raise if a new run would write over the checkpoints of an earlier one."""
    if resume or (last := last_saved(work_dir)) is None:
        return
    raise UsageError(
        f"{work_dir} holds another run (its last checkpoint is {Path(last).name}); go on with it by "
        "--resume, write elsewhere by --work-dir DIR, or remove the folder"
    )
