"""Writing a smaller network, and building it again from the original's code."""

import copy
import json
from pathlib import Path

import torch
from torch import nn

from rarts_mm.checkpoint_reader import read_weights
from rarts_mm.files import atomic_write, write_text
from rarts_mm.widths.flow.cutting import cut_network
from rarts_mm.widths.flow.record import Cut

RECORD, WEIGHTS = "widths.json", "weights.pth"


def write(model: nn.Module, cut: Cut, folder: str | Path) -> None:
    """Write what a smaller network consists of: its widths as JSON, its weights as a state dict."""
    folder = Path(folder)
    with atomic_write(folder / WEIGHTS) as path, open(path, "wb") as file:
        torch.save({"state_dict": model.state_dict()}, file)
    write_text(folder / RECORD, json.dumps(cut.to_dict(), indent=1))


def load(model: nn.Module, folder: str | Path) -> nn.Module:
    """Build a network that was saved: cut a copy of the original, and load the weights.

    Nothing is run for it: neither an analysis nor code from the files.

    Args:
        model: the original network, built by its own code; it is not changed.
        folder: where :func:`rarts_mm.save` wrote it.

    Returns:
        The smaller network, in the mode that ``model`` is in.

    Raises:
        ValueError: files that do not fit the network; names the first layer that differs.
        CheckpointFileError: the weights are missing or damaged.
    """
    path = Path(folder) / RECORD
    if not path.is_file():
        raise ValueError(f"{path} does not exist; give the folder that rarts_mm.save wrote")
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    try:
        cut = Cut.from_dict(content)
        cut.check(model)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    weights = read_weights(Path(folder) / WEIGHTS)["state_dict"]
    smaller = cut_network(copy.deepcopy(model), cut)
    try:
        smaller.load_state_dict(weights)
    except RuntimeError as error:
        first = "\n".join(str(error).splitlines()[:3])
        raise ValueError(f"{folder}: the weights do not fit the network:\n{first}") from error
    return smaller
