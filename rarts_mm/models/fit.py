"""Whether a checkpoint's weights are those of a model, entry by entry."""

import re
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

# Counters and tables that a model computes by itself, in some versions of the libraries kept in files.
_COMPUTED = ("num_batches_tracked", "attn_mask", "relative_position_index", "relative_coords_table")
_SHAPES = re.compile(
    r"size mismatch for (?P<name>\S+): copying a param with shape torch\.Size\(\[(?P<file>.*?)\]\) "
    r"from checkpoint, the shape in current model is torch\.Size\(\[(?P<model>.*?)\]\)"
)
ABSENT, UNKNOWN = "not in the file", "not in the model"


def misfits(model: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Load weights into a model as its layers do, renaming what they rename; say what does not fit.

    Returns:
        A line per entry that has another shape, that the file has not (``ABSENT``) or the model has
        not (``UNKNOWN``); none of what a model computes by itself. Where shapes differ, these alone.
    """
    state = {key.removeprefix("module."): value for key, value in state.items()}
    try:
        found = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        # torch's heading; a layer of ours that refuses its weights says so without one.
        lines = lines[1:] if lines[0].startswith("Error(s) in loading") else lines
        return [_SHAPES.sub(_shapes, line).rstrip(".") for line in lines if line]
    return [
        f"{key}: {what}"
        for keys, what in ((found.missing_keys, ABSENT), (found.unexpected_keys, UNKNOWN))
        for key in keys
        if key.rpartition(".")[2] not in _COMPUTED
    ]


def listed(problems: Sequence[str], number: int = 4) -> list[str]:
    """The first lines of many, indented, and how many more there are."""
    shown = [f"  {line}" for line in problems[:number]]
    if len(problems) > number:
        shown.append(f"  ... and {len(problems) - number} more")
    return shown


def _shapes(match: re.Match) -> str:
    return f"{match['name']}: ({match['file']}) in the file, ({match['model']}) in the model"
