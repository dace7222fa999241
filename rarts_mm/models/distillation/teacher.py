"""The teacher: a trained network that only answers."""

from collections.abc import Mapping
from typing import Any

from mmengine.config import ConfigDict
from torch import Tensor, nn

from rarts_mm.registry import MODELS
from rarts_mm.widths.pruned import without_pretrained

from ..checkpoint_file import read_checkpoint_file
from ..swin_release import convert_on_load

# Counters and tables that a model computes by itself, in some versions of the libraries kept in files.
_COMPUTED = ("num_batches_tracked", "attn_mask", "relative_position_index", "relative_coords_table")


def build_teacher(cfg: Mapping[str, Any], checkpoint: str) -> nn.Module:
    """Build a teacher and load its weights, once.

    Args:
        cfg: config of a plain model (or a pruned one). What it says of pretrained weights is not read.
        checkpoint: file or URL; also one of an original Swin release.

    Returns:
        The network in evaluation mode, on the CPU; no parameter requires a gradient.

    Raises:
        ValueError: the checkpoint cannot be read, or is not of this network.
    """
    state = read_checkpoint_file(checkpoint)["state_dict"]
    network = MODELS.build(ConfigDict(without_pretrained(dict(cfg))))
    _load(network, state, checkpoint)
    network.requires_grad_(False)
    # Some backbones return nothing from train() and eval().
    network.train(False)
    return network


def _load(network: nn.Module, state: Mapping[str, Tensor], checkpoint: str) -> None:
    if any(key.startswith("alpha.") for key in state):
        raise ValueError(
            f"teacher_checkpoint={checkpoint!r} is one of a search, whose networks are scored: give the "
            "plain model's that the search started from (its load_from), or train one"
        )
    state = {key.removeprefix("module."): value for key, value in state.items()}
    try:
        found = network.load_state_dict(convert_on_load(state, network), strict=False)
    except RuntimeError as error:
        problems = str(error).splitlines()[1:] or [str(error)]
        raise ValueError(_message(network, checkpoint, problems)) from error
    problems = [f"{key}: not in the file" for key in found.missing_keys if _matters(key)]
    problems += [f"{key}: not in the model" for key in found.unexpected_keys if _matters(key)]
    if problems:
        raise ValueError(_message(network, checkpoint, problems))


def _matters(key: str) -> bool:
    return key.rpartition(".")[2] not in _COMPUTED


def _message(network: nn.Module, checkpoint: str, problems: list[str]) -> str:
    shown = [f"  {line.strip()}" for line in problems[:4]]
    if len(problems) > len(shown):
        shown.append(f"  ... and {len(problems) - len(shown)} more")
    return "\n".join(
        [
            f"teacher_checkpoint={checkpoint!r} is not of the teacher's model "
            f"({type(network).__name__}):",
            *shown,
            "Give the config that the checkpoint was trained with, or that config's checkpoint",
        ]
    )
