"""``--tta``: test with several views of each image, as the libraries' own tools do."""

import copy

from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel

from .annotations import leaf_datasets
from .errors import UsageError

_FLIPS = [dict(type="RandomFlip", prob=1.0), dict(type="RandomFlip", prob=0.0)]
# By what packs the images: MMDetection's default, which is registered outside its scope, and MMPretrain's.
_DEFAULTS = {
    "PackDetInputs": dict(
        type="DetTTAModel",
        tta_cfg=dict(nms=dict(type="nms", iou_threshold=0.5), max_per_img=100),
    ),
    "PackInputs": dict(type="mmpretrain.AverageClsScoreTTA"),
}
_BOXES_ALONE = "DetTTAModel"
_META_KEYS = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "flip")


class BoxesAloneHook(Hook):
    """Leaves out masks where only boxes are merged.

    MMDetection's cascades cannot turn the masks of mirror images back (``merge_aug_masks``).
    """

    def before_test(self, runner) -> None:
        for outer in runner.model.modules():
            if isinstance(outer, BaseTTAModel) and _merges_boxes_alone(type(outer)):
                for head in outer.modules():
                    if {"bbox_head", "mask_head"} <= head._modules.keys():
                        head.mask_head = None


def with_tta(cfg: Config) -> Config:
    """The config that tests with the config's ``tta_model`` and ``tta_pipeline``.

    Where one of them is missing, it is the libraries' default: each image and its mirror image, the
    boxes of both merged by non-maximum suppression, or the scores of classes averaged.

    Args:
        cfg: a config with test data; not changed.

    Raises:
        UsageError: there is no default for such a pipeline, or the merged predictions lack what the
            metrics compare.
    """
    cfg = copy.deepcopy(cfg)
    leaves = [
        leaf for _, leaf in leaf_datasets(cfg.test_dataloader.dataset, "test_dataloader.dataset")
    ]
    model = cfg.get("tta_model")
    if model is None:
        model = _DEFAULTS[_packing(leaves[0])]
        print(f"--tta: the config has no tta_model; taking {model['type']}")
    if cfg.get("tta_pipeline") is None:
        print("--tta: the config has no tta_pipeline; taking each image and its mirror image")
    for leaf in leaves:
        leaf["pipeline"] = copy.deepcopy(cfg.get("tta_pipeline") or _mirrored(leaf))
    _check_metrics(cfg, model)
    cfg.model = ConfigDict(**copy.deepcopy(model), module=cfg.model)
    if _name((cfg.get("model_wrapper_cfg") or {}).get("type")) == "SearchDistributed":
        # It is for the search's training alone.
        cfg.pop("model_wrapper_cfg")
    return cfg


def _merges_boxes_alone(kind: type) -> bool:
    return _BOXES_ALONE in {base.__name__ for base in kind.__mro__}


def _name(kind: object) -> str:
    return (kind if isinstance(kind, str) else getattr(kind, "__name__", "")).rpartition(".")[2]


def _packing(dataset: dict) -> str:
    pipeline = dataset.get("pipeline") or [{}]
    name = _name(pipeline[-1].get("type"))
    if name not in _DEFAULTS:
        raise UsageError(
            f"--tta: the config lacks tta_model or tta_pipeline, and the libraries have defaults for "
            f"pipelines that end with {' or '.join(_DEFAULTS)} only, not with {name!r}; write both into "
            "the config"
        )
    return name


def _mirrored(dataset: dict) -> list:
    scope = "mmdet" if (name := _packing(dataset)) == "PackDetInputs" else "mmpretrain"
    *before, pack = copy.deepcopy(list(dataset["pipeline"]))
    if name == "PackDetInputs":
        pack = dict(type="mmdet.PackDetInputs", meta_keys=(*_META_KEYS, "flip_direction"))
    flips = [dict(flip, type=f"{scope}.{flip['type']}") for flip in _FLIPS]
    return [*before, dict(type="TestTimeAug", transforms=[flips, [pack]])]


def _check_metrics(cfg: Config, model: dict) -> None:
    if _name(model["type"]) != _BOXES_ALONE:
        return
    metrics = cfg.test_evaluator
    for metric in metrics if isinstance(metrics, list | tuple) else [metrics]:
        wanted = metric.get("metric") or []
        wanted = [wanted] if isinstance(wanted, str) else wanted
        if "segm" in wanted:
            raise UsageError(
                "--tta: MMDetection's DetTTAModel merges boxes, no masks, and the metric 'segm' of "
                "test_evaluator compares masks; add --cfg-options test_evaluator.metric=bbox"
            )
