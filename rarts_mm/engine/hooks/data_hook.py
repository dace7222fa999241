"""Data that do not fit the model, or cannot be read, are said in words."""

from collections.abc import Iterator

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop
from torch import nn

from rarts_mm.datasets.images import innermost, name_images
from rarts_mm.registry import HOOKS

from ..unwrapping import unwrapped

# Which have classes of their own: objects or not, stuff.
_OTHER_HEADS = ("rpn_head", "semantic_head")


@HOOKS.register_module()
class DataHook(Hook):
    """Looks at the data before the first step.

    - A data set that is empty is refused.
    - A head with fewer classes than the data have labels is refused: those images would be trained as
      another class, or as background. One with more is warned of.
    - Images that cannot be read are named by the error that they cause.
    """

    priority = "VERY_HIGH"

    def before_run(self, runner) -> None:
        model = unwrapped(runner.model)
        heads = dict(_heads(model))
        for place, dataset in _datasets(runner):
            if hasattr(dataset, "__len__") and len(dataset) == 0:
                raise ValueError(
                    f"{place}.dataset is empty: no image is left of its files. See its ann_file, "
                    "data_prefix, filter_cfg and metainfo"
                )
            name_images(dataset)
            _check_classes(runner, place, dataset, heads)

    def before_train_epoch(self, runner) -> None:
        # A hook may have given the data set another pipeline.
        for _, dataset in _datasets(runner):
            name_images(dataset)


def _datasets(runner) -> Iterator[tuple[str, object]]:
    """The data sets that are built: those of training and validation, or of the test."""
    for phase in ("train", "val", "test"):
        loop = getattr(runner, f"_{phase}_loop")
        if not isinstance(loop, BaseLoop):
            continue
        # A search has two.
        loaders = getattr(loop, "loaders", None)
        for loader in loaders.values() if isinstance(loaders, dict) else [loop.dataloader]:
            yield f"{phase}_dataloader", loader.dataset


def _heads(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in model.named_modules():
        number = getattr(module, "num_classes", None)
        if not isinstance(number, int) or number < 1:
            continue
        # timm's networks say what they were made for, though their classifier is gone.
        foreign = type(module).__module__.partition(".")[0] == "timm"
        if not foreign and not any(other in name for other in _OTHER_HEADS):
            yield name, module


def _check_classes(runner, place: str, dataset: object, heads: dict[str, nn.Module]) -> None:
    classes = (getattr(dataset, "metainfo", None) or {}).get("classes")
    if not isinstance(classes, list | tuple):
        return
    small = {name: head for name, head in heads.items() if head.num_classes < len(classes)}
    large = {name: head for name, head in heads.items() if head.num_classes > len(classes)}
    if small:
        # A file may have fewer classes than the data set's class knows names.
        top = _largest_label(dataset)
        small = {name: head for name, head in small.items() if head.num_classes <= top}
        if small:
            raise ValueError(
                f"{_named(small)}, but the data of {place} have {len(classes)} classes "
                f"({', '.join(classes[:6])}{', ...' if len(classes) > 6 else ''}), and label {top} "
                f"occurs. Set num_classes={len(classes)} in every head, or metainfo of the data"
            )
    if large:
        # As one text: MMEngine's logger drops a second warning of the same format.
        runner.logger.warning(
            f"{_named(large)}, but the data of {place} have {len(classes)} classes "
            f"({', '.join(classes[:6])}): the others will never be learned."
        )


def _named(heads: dict[str, nn.Module]) -> str:
    (name, head), more = next(iter(heads.items())), len(heads) - 1
    others = f" (and {more} more like it)" if more else ""
    return f"model.{name} ({type(head).__name__}){others} has num_classes={head.num_classes}"


def _largest_label(dataset: object) -> int:
    """The largest label of all images; -1 if the data set does not tell."""
    labels = {-1}
    for leaf in innermost(dataset):
        for i in range(len(leaf) if hasattr(leaf, "get_data_info") else 0):
            info = leaf.get_data_info(i)
            labels.update(np.ravel(info.get("gt_label", -1)).tolist())
            labels.update(each.get("bbox_label", -1) for each in info.get("instances", []))
    return max(labels)
