"""From the config that fine-tunes a pruned model to one that does so with a teacher."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS

from rarts_mm.files import is_remote
from rarts_mm.models.distillation import distilled_type

from .configs import is_search, plain_config, prepare_registries, read_config
from .errors import UsageError
from .validation import check_config

# Written out, so that a config shows what its loss is.
_WEIGHTS = {
    "rarts_mm.DistilledClassifier": dict(task_weight=1.0, kd_weight=1.0),
    "rarts_mm.DistilledDetector": dict(task_weight=1.0, cls_weight=1.0, feature_weight=1.0),
}


def distill_config(
    pruned: Config,
    teacher_config: str | Path,
    teacher_checkpoint: str | Path,
    settings: Mapping[str, float] | None = None,
) -> Config:
    """The config that fine-tunes a model with knowledge distillation, ``distill.py``.

    It is ``pruned`` with its model as the student of a distilling wrapper (see
    :class:`~rarts_mm.models.DistilledClassifier` and :class:`~rarts_mm.models.DistilledDetector`), the
    teacher's model written into it, and the folder ``distill`` beside that of ``pruned`` to work in.
    Student and teacher are built and compared here, so that a teacher that does not fit is known before
    anything is written. Nothing is written here.

    Args:
        pruned: a config that trains a plain model; not changed.
        teacher_config: the config file of the teacher. Of a search, its architecture is taken.
        teacher_checkpoint: the teacher's weights, a file or a URL; files are named by their full path.
        settings: options of the wrapper other than the default, such as ``dict(kd_weight=2.0)``.

    Raises:
        UsageError: the teacher's config or checkpoint cannot be read, or the two do not fit each other
            or the student.
    """
    teacher_cfg = read_config(teacher_config)
    if "model" not in teacher_cfg:
        raise UsageError(f"teacher config {teacher_config} has no model")
    prepare_registries(teacher_cfg)
    check_config(teacher_cfg, f"teacher {teacher_config}", parts=("model", "data_preprocessor"))
    if is_search(teacher_cfg):
        teacher_cfg = plain_config(teacher_cfg, "baseline")
    cfg = copy.deepcopy(pruned.to_dict())
    cfg["custom_imports"] = _imports(cfg, teacher_cfg)
    prepare_registries(Config(ConfigDict(cfg)))

    student = cfg["model"]
    kind = _kind_of(student, cfg.get("data_preprocessor"))
    checkpoint = str(teacher_checkpoint)
    if not is_remote(checkpoint):
        checkpoint = str(Path(checkpoint).absolute())
    cfg["model"] = dict(
        type=kind,
        student=student,
        teacher=_teacher(teacher_cfg, cfg.get("default_scope")),
        teacher_checkpoint=checkpoint,
        **{"temperature": 4.0, **_WEIGHTS[kind], **(settings or {})},
    )
    if cfg.get("work_dir"):
        cfg["work_dir"] = str(Path(cfg["work_dir"]).with_name("distill"))
    _build(cfg, teacher_config)
    return Config(ConfigDict(cfg))


def _teacher(cfg: Config, scope: str | None) -> dict[str, Any]:
    """The teacher's model with its own preprocessor, which MMPretrain keeps outside the model."""
    model = copy.deepcopy(cfg.model.to_dict())
    if model.get("data_preprocessor") is None and cfg.get("data_preprocessor") is not None:
        model["data_preprocessor"] = copy.deepcopy(cfg.data_preprocessor.to_dict())
    theirs = cfg.get("default_scope")
    if theirs is not None and theirs != scope:
        model["_scope_"] = theirs
    return model


def _imports(cfg: Mapping, teacher_cfg: Config) -> dict[str, Any]:
    """What both configs import, and this package."""
    names = ["rarts_mm"]
    for each in (cfg, teacher_cfg):
        found = (each.get("custom_imports") or {}).get("imports", [])
        names += [found] if isinstance(found, str) else found
    return dict(imports=list(dict.fromkeys(names)), allow_failed_imports=False)


def _kind_of(student: Mapping[str, Any], preprocessor: Mapping | None) -> str:
    try:
        network = MODELS.build(_with_preprocessor(student, preprocessor))
        if hasattr(network, "distillation"):
            raise ValueError(
                "it has a teacher already; start from a plain config, such as pruned.py"
            )
        return distilled_type(network)
    except ValueError as error:
        raise UsageError(f"the student cannot be distilled into: {error}") from error


def _build(cfg: Mapping[str, Any], teacher_config: str | Path) -> None:
    """Build the whole once: its constructor compares student and teacher."""
    try:
        MODELS.build(_with_preprocessor(cfg["model"], cfg.get("data_preprocessor")))
    except (ValueError, TypeError, KeyError, ImportError, AttributeError, AssertionError) as error:
        raise UsageError(f"teacher {teacher_config} cannot be used: {error}") from error


def _with_preprocessor(model: Mapping[str, Any], preprocessor: Mapping | None) -> ConfigDict:
    """What the Runner builds: a preprocessor at the config's top level goes into the model."""
    model = ConfigDict(copy.deepcopy(dict(model)))
    if preprocessor is not None:
        model.setdefault("data_preprocessor", copy.deepcopy(preprocessor))
    return model
