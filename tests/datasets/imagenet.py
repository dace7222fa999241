"""A small folder in ImageNet's format, of generated images."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np


def write_imagenet(
    root: Path, train: Mapping[str, int], val: Mapping[str, int], flat: bool = False
) -> Path:
    """Folders ``train`` and ``val`` with as many JPEGs of each class as told; ``flat``: val has
    no folders but ``meta/val.txt``, whose labels count the sorted classes of ``train``."""
    generator = np.random.default_rng(0)

    def write(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (40, 48, 3), dtype=np.uint8)
        path.write_bytes(cv2.imencode(".jpg", pixels)[1].tobytes())

    for name, number in train.items():
        (root / "train" / name).mkdir(parents=True)
        for i in range(number):
            write(root / "train" / name / f"{name}_{7 * i}.JPEG")
    (root / "val").mkdir()
    lines = []
    for label, name in enumerate(sorted(val)):
        for i in range(val[name]):
            image = f"ILSVRC2012_val_{10 * i + label:08d}.JPEG"
            lines.append(f"{image} {label}\n")
            write(root / "val" / ("" if flat else name) / image)
    if flat:
        (root / "meta").mkdir()
        # Not in the order of the classes, as in the real file.
        (root / "meta" / "val.txt").write_text("".join(sorted(lines)))
    return root
