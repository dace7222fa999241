"""Ways to spoil a checkpoint's file."""

import zipfile
from pathlib import Path

import torch


class Program:
    """A pickle of it makes a file where it is read."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return eval, (f"open({str(self.target)!r}, 'w').close()",)


def put_program_in(path: Path, target: Path) -> None:
    content = torch.load(path, weights_only=False)
    content.setdefault("meta", {})["note"] = Program(target)
    torch.save(content, path)


def flip(path: Path) -> None:
    """One bit in the largest part of the file, a weight, which torch.load would not notice."""
    with zipfile.ZipFile(path) as archive:
        part = archive.read(max(archive.infolist(), key=lambda info: info.file_size))
    content = bytearray(path.read_bytes())
    content[content.index(part) + len(part) // 2] ^= 1
    path.write_bytes(content)


def put_nan_in(path: Path) -> None:
    content = torch.load(path, weights_only=False)
    weights = [v for v in content["state_dict"].values() if v.is_floating_point()]
    weights[0].flatten()[0] = float("nan")
    weights[-1].fill_(float("inf"))
    torch.save(content, path)
