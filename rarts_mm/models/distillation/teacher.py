"""The teacher: a trained network that only answers."""

from collections.abc import Mapping
from typing import Any

from mmengine.config import ConfigDict
from torch import Tensor, nn

from rarts_mm.checkpoint_reader import read_weights
from rarts_mm.registry import MODELS
from rarts_mm.widths.pruned import without_pretrained

from ..fit import listed, misfits
from ..swin_release import convert_on_load


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
    state = read_weights(checkpoint)["state_dict"]
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
    if problems := misfits(network, convert_on_load(state, network)):
        raise ValueError(_message(network, checkpoint, problems))


def _message(network: nn.Module, checkpoint: str, problems: list[str]) -> str:
    return "\n".join(
        [
            f"teacher_checkpoint={checkpoint!r} is not of the teacher's model "
            f"({type(network).__name__}):",
            *listed(problems),
            "Give the config that the checkpoint was trained with, or that config's checkpoint",
        ]
    )
