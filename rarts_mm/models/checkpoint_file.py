"""Reading a checkpoint's file, whoever wrote it."""

import pickle
from pathlib import Path

import torch
from mmengine.runner import CheckpointLoader

from rarts_mm.files import is_remote


class CheckpointFileError(ValueError):
    """A checkpoint that is missing, out of reach or broken, or a file that is none."""


def read_checkpoint_file(path: str | Path) -> dict:
    """Read a checkpoint, a file or a URL, on the CPU.

    Returns:
        The checkpoint; its weights are under ``state_dict``, wherever the file has them.

    Raises:
        CheckpointFileError: missing, out of reach, truncated, or no checkpoint at all.
    """
    if is_remote(path):
        return _with_state_dict(_fetch(str(path)), path)
    path = Path(path)
    if not path.is_file():
        raise CheckpointFileError(f"checkpoint {path} does not exist; give the path of a .pth file")
    try:
        # MMEngine's checkpoints hold its own message hub, so that the file must be trusted.
        checkpoint = torch.load(path, map_location="cpu", weights_only=False)
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError, KeyError, ValueError) as error:
        raise CheckpointFileError(
            f"checkpoint {path} ({path.stat().st_size} bytes) cannot be read: "
            f"{str(error).rstrip('.')}. It may be "
            "truncated or no checkpoint; take the one before it"
        ) from error
    return _with_state_dict(checkpoint, path)


def _fetch(url: str) -> object:
    try:
        # Downloads once: torch.hub keeps the file.
        return CheckpointLoader.load_checkpoint(url, map_location="cpu")
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointFileError(
            f"checkpoint {url} cannot be fetched: {error}. Download it and give the path of the file"
        ) from error


def _with_state_dict(checkpoint: object, path: str | Path) -> dict:
    if not isinstance(checkpoint, dict):
        raise CheckpointFileError(
            f"checkpoint {path} holds a {type(checkpoint).__name__}, not a state dict"
        )
    if "state_dict" in checkpoint:
        return checkpoint
    # Classifiers of the original Swin release are saved as {"model": ...}.
    return {"state_dict": checkpoint.get("model", checkpoint)}
