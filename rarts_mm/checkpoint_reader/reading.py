"""The one place where checkpoints are read: every tool, hook and model of this package comes here."""

import os
import pickle
import re
from collections.abc import Callable
from logging import WARNING
from pathlib import Path
from typing import Any, BinaryIO

import torch
from mmengine.logging import print_log

from rarts_mm.files import is_remote

from .checks import damage_of_zip, is_zip, not_finite, words
from .downloads import fetch
from .errors import UNREADABLE, CheckpointFileError, UntrustedCheckpointError
from .plain_values import NotPlainError, allowed, resolve
from .trust import is_trusting

# What was found whole, by device, inode, size and times: a large file's checksums are compared once,
# though it is looked at before a model is built, and read afterwards.
_whole: set[tuple] = set()

_NAMED = (
    re.compile(r"GLOBAL (\S+) (?:was not an allowed|whose module)"),
    re.compile(r"unrecognized function (.+?)(?: which belongs|\n|$)"),
    re.compile(r"but got (<class .+?>)"),
)


def read_checkpoint(
    path: str | Path,
    map_location: str | torch.device | Callable | None = "cpu",
    lazily: bool = False,
) -> dict[str, Any]:
    """Read a checkpoint, a file or a URL, after checking all that can be checked.

    That is: the checksums of all its parts (torch's files before 1.6 have none), that it can be read as
    data alone, that it holds a dict, and that its weights are finite numbers.

    Args:
        map_location: as for :func:`torch.load`.
        lazily: leave the tensors on the disk until they are used. The file must stay as it is.

    Returns:
        What was saved.

    Raises:
        UntrustedCheckpointError: it holds more than data, see :func:`~rarts_mm.checkpoint_reader.trusting`.
        CheckpointFileError: missing, out of reach, damaged, not finite, or no checkpoint at all.
    """
    local = fetch(str(path)) if is_remote(path) else Path(path).expanduser()
    if not local.is_file():
        raise CheckpointFileError(
            f"checkpoint {path} does not exist; give the path of a .pth file",
            "there is no such file",
        )
    try:
        with open(local, "rb") as file:
            return _read(file, local, str(path), map_location, lazily)
    except OSError as error:
        raise _unreadable(path, words(error)) from error


def check_checkpoint(path: str | Path) -> None:
    """Raise what :func:`read_checkpoint` would raise; takes hardly any memory."""
    read_checkpoint(path, lazily=True)


def read_weights(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint with its weights under ``state_dict``, wherever the file has them.

    Raises:
        CheckpointFileError: as :func:`read_checkpoint`.
    """
    checkpoint = read_checkpoint(path)
    if "state_dict" in checkpoint:
        return checkpoint
    # Classifiers of the original Swin release are saved as {"model": ...}.
    return {"state_dict": checkpoint.get("model", checkpoint)}


def _read(
    file: BinaryIO, local: Path, name: str, map_location: object, lazily: bool
) -> dict[str, Any]:
    state = os.fstat(file.fileno())
    identity = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
    zipped = is_zip(file)
    if identity not in _whole:
        if zipped and (damage := damage_of_zip(file, state.st_size)) is not None:
            raise _unreadable(name, damage)
        if not zipped and state.st_size > 0:
            print_log(
                f"{name} is of torch's format before 1.6, which has no checksums: damage to its "
                "weights would not be noticed.",
                logger="current",
            )
    # Only a path can be mapped; should another file have taken its place, it was not checked, and the
    # one that reads it in earnest will do so.
    source = str(local) if lazily and zipped else file
    options = dict(map_location=map_location, mmap=lazily and zipped)
    try:
        content = _load(source, name, zipped, options)
    except UNREADABLE as error:
        if isinstance(error, CheckpointFileError):
            raise
        reason = f"{state.st_size} bytes that are no whole file of torch.save: {words(error)}"
        raise _unreadable(name, reason) from error
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise CheckpointFileError(
            f"checkpoint {name} holds a {kind}, not a state dict", f"it holds a {kind}"
        )
    if identity not in _whole:
        if (odd := not_finite(content)) is not None:
            raise CheckpointFileError(
                f"checkpoint {name} cannot be used: {odd}. Its training had diverged, or the file was "
                "changed; take an earlier one",
                odd,
            )
        _whole.add(identity)
    return content


def _load(source: str | BinaryIO, name: str, zipped: bool, options: dict) -> object:
    """Read data alone; what is more, only where the user trusts it."""
    try:
        with torch.serialization.safe_globals(allowed()):
            return resolve(torch.load(source, weights_only=True, **options))
    except (pickle.UnpicklingError, NotPlainError) as error:
        # The old format has no checksums: whatever names nothing may as well be damage.
        what = _asked_for(error)
        if what is None and not zipped:
            raise
        if not is_trusting():
            raise _untrusted(name, what or _said(error), zipped) from error
    print_log(
        f"{name} holds more than data ({what or 'in a pickle of another kind'}); as "
        "--trust-checkpoint says, what it asks for is run.",
        logger="current",
        level=WARNING,
    )
    if not isinstance(source, str):
        source.seek(0)
    return torch.load(source, weights_only=False, **options)


def _asked_for(error: Exception) -> str | None:
    """The name that a pickle wanted to use."""
    if isinstance(error, NotPlainError):
        return str(error)
    found = (pattern.search(str(error)) for pattern in _NAMED)
    return next((match[1] for match in found if match), None)


def _said(error: Exception) -> str:
    """torch's reason, without its advice."""
    return str(error).rpartition("WeightsUnpickler error:")[2].strip().partition("\n")[0]


def _untrusted(name: str, what: str, zipped: bool) -> UntrustedCheckpointError:
    damaged = "" if zipped else ", or is damaged (its old format has no checksums)"
    reason = f"it holds more than data ({what}), and could run any program when it is read{damaged}"
    return UntrustedCheckpointError(
        f"checkpoint {name} is not read: {reason}. If you know who made it and would run a program of "
        "theirs, repeat the command with --trust-checkpoint; see docs/security.md",
        reason,
    )


def _unreadable(name: str | Path, reason: str) -> CheckpointFileError:
    return CheckpointFileError(
        f"checkpoint {name} cannot be read: {reason}. It may be truncated, damaged or no checkpoint; "
        f"take {'the one before it' if not is_remote(name) else 'another, or download it anew'}",
        reason,
    )
