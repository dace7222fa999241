"""Checkpoints of the original Swin Transformer releases, for MMDetection and MMPretrain.

The releases (``SwinTransformer/storage``: classifiers, and detectors trained with MMDetection 2.11)
differ from both libraries in the names inside the backbone and in the channel order of patch
merging: they stack the four pixels of a patch column by column, ``nn.Unfold`` channel by channel.
The names of necks and heads are the same.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor, nn

_BLOCK = re.compile(r"^(backbone\.)?layers\.\d+\.blocks\.\d+\.attn\.qkv\.weight$")
_MERGING = re.compile(r"^(backbone\.)?layers\.0\.downsample\.reduction\.weight$")


def is_swin_release(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether these are the names of an original Swin release, of a detector or of a classifier.

    timm's Swin has the same block names, but merges patches at the start of a stage; a first stage
    that ends with a merging is the releases' mark.
    """
    return any(map(_BLOCK.match, state_dict)) and any(map(_MERGING.match, state_dict))


def convert_swin_release(state_dict: Mapping[str, Tensor]) -> "OrderedDict[str, Tensor]":
    """Rename and reorder the tensors of an original Swin release.

    Args:
        state_dict: Names to tensors, as in the released file: a detector
            (``backbone.layers...``, ``neck...``, ``rpn_head...``, ``roi_head...``) or a classifier
            (``layers...``, ``norm``, ``head``).

    Returns:
        A new dictionary for an MMDetection 3 detector or an MMPretrain classifier with the same
        Swin. ``norm`` of a classifier becomes ``backbone.normN`` of the last stage and ``head``
        becomes ``head.fc``. Attention masks, which both libraries compute, are dropped. The given
        dictionary and its tensors are not changed.

    Raises:
        ValueError: The names are not a release's.
    """
    if not is_swin_release(state_dict):
        raise ValueError(
            "This state dict is not of an original Swin release: such a file has keys like "
            "'backbone.layers.0.blocks.0.attn.qkv.weight', this one starts with "
            f"{[*state_dict][:3]}. Load it without conversion."
        )
    # Importing MMDetection takes seconds, which only those who convert should pay.
    from mmdet.models.backbones.swin import swin_converter

    is_detector = any(key.startswith("backbone.") for key in state_dict)
    prefix = "backbone." if is_detector else ""
    backbone: OrderedDict[str, Tensor] = OrderedDict()
    rest: OrderedDict[str, Tensor] = OrderedDict()
    for key, value in state_dict.items():
        name = key.removeprefix(prefix)
        if key.startswith(prefix) and not name.startswith("head."):
            if not name.endswith(".attn_mask"):
                backbone[name] = value
        elif is_detector:
            rest[key] = value
        else:
            rest[key.replace("head.", "head.fc.", 1)] = value

    position = backbone.get("absolute_pos_embed")
    if position is not None and position.ndim == 4:
        # (1, channels, height, width) in the detectors, (1, height * width, channels) elsewhere.
        backbone["absolute_pos_embed"] = position.flatten(2).transpose(1, 2)

    converted = swin_converter(backbone)
    last_stage = max(int(key.split(".")[1]) for key in backbone if key.startswith("layers."))
    for suffix in ("weight", "bias"):
        final_norm = converted.pop(f"backbone.norm.{suffix}", None)
        if final_norm is not None:
            converted[f"backbone.norm{last_stage}.{suffix}"] = final_norm
    converted.update(rest)
    return converted


def convert_on_load(
    state_dict: Mapping[str, Tensor], network: nn.Module | None = None
) -> Mapping[str, Tensor]:
    """``state_dict`` in both libraries' names; the same object if there is nothing to convert.

    Args:
        state_dict: What is about to be loaded.
        network: The network it is meant for. One that itself uses the releases' names (a copy of
            the original code as a backbone) gets its tensors unchanged.
    """
    if not is_swin_release(state_dict):
        return state_dict
    if network is not None and is_swin_release(network.state_dict()):
        return state_dict
    return convert_swin_release(state_dict)
