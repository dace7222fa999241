"""What can be wrong with a checkpoint's file and with its numbers."""

import zipfile
from collections.abc import Iterator, Mapping
from typing import BinaryIO

import torch
from torch import Tensor

from .errors import UNREADABLE

_ZIP = b"PK\x03\x04"
# Where a training's checkpoint has weights, and where published ones have them.
_WEIGHTS = ("state_dict", "ema_state_dict", "model")


def is_zip(file: BinaryIO) -> bool:
    """Whether a file is of torch's format since 1.6; the one before it has no checksums."""
    start = file.read(len(_ZIP))
    file.seek(0)
    return start == _ZIP


def damage_of_zip(file: BinaryIO, size: int) -> str | None:
    """Compare the checksums of all parts; what is wrong, or None. Reads the whole file."""
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                if member.compress_type != zipfile.ZIP_STORED:
                    return f"its part {member.filename} is compressed, which torch.save never does"
            if (name := archive.testzip()) is not None:
                return f"the checksum of its part {name} is wrong"
    except UNREADABLE as error:
        return f"{size} bytes that are no whole file of torch.save: {words(error)}"
    finally:
        file.seek(0)
    return None


def not_finite(content: Mapping) -> str | None:
    """Name the first tensor of weights with NaN or infinite values, and how many there are; or None."""
    odd = [(name, count) for name, count in map(_count, _weights(content)) if count]
    if not odd:
        return None
    (name, count), *others = odd
    more = f", and {len(others)} more tensors have some" if others else ""
    return f"{count} values of {name} are not finite (NaN or infinity){more}"


def _weights(content: Mapping) -> Iterator[tuple[str, Tensor]]:
    found = [content[key] for key in _WEIGHTS if isinstance(content.get(key), Mapping)]
    for state in found or [content]:
        for name, value in state.items():
            # Masks of attention hold -inf on purpose.
            if isinstance(value, Tensor) and "mask" not in str(name).rpartition(".")[2]:
                yield str(name), value


def _count(item: tuple[str, Tensor]) -> tuple[str, int]:
    name, value = item
    if not (value.is_floating_point() or value.is_complex()) or value.is_meta:
        return name, 0
    if value.is_quantized or value.layout is not torch.strided:
        return name, 0
    if value.element_size() < 2:
        # Types of 8 bits have no test of their own.
        value = value.float()
    return name, int(value.numel() - value.isfinite().sum())


def words(error: BaseException) -> str:
    """An error's first line; some have none."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
