"""Real handwritten digits as image files: the 1797 pictures of 8 x 8 that scikit-learn carries.

They are the test set of the UCI repository's "Optical Recognition of Handwritten Digits" (Alpaydin and
Kaynak, 1998): digits of 13 people, scanned at 32 x 32 and counted down to 8 x 8 cells of 0 to 16. Here
they are split anew, so that each person's digits are in all splits. Small enough for comparisons over
many seeds, and real.

MMPretrain's ``CustomDataset`` reads the folders as they are: one per split, in it one per class.
"""

import os
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from .folder import write_data_set

VERSION = 1
"""Version of the files: raised when the same arguments give others."""

SPLITS = {"train": 1000, "val": 257, "test": 540}
"""Number of images of each split; all 1797 are used."""

LEVELS = 16  # the brightest cell: all 16 pixels that it counts are set


def make_digits(out: str | os.PathLike = "data/digits", seed: int = 0, force: bool = False) -> bool:
    """Write the data set: ``{train,val,test}/<digit>/<number>.png``, grey, 8 x 8.

    The splits are disjoint, drawn by the seed, and each has the digits in the proportions of the
    whole. A file's number is the image's place in scikit-learn's array; a cell c of 0 to 16 becomes
    the grey level round(255 c / 16), from which it can be told exactly.

    Args:
        out: The folder. It appears whole or not at all; one that holds this data set already is left
            as it is.
        seed: Non-negative seed of the splits.
        force: Replace a data set that this function made with another seed.

    Returns:
        True if the data set was made, False if it was already there.

    Raises:
        ValueError: A bad seed.
        RuntimeError: scikit-learn is not installed.
        FileExistsError: ``out`` holds something else, which is left alone.
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise ValueError(f"seed={seed!r}: must be a whole number from 0 to 2**32 - 1.")
    manifest = dict(generator="rarts_mm.digits", version=VERSION, seed=seed, **SPLITS)
    return write_data_set(out, manifest, partial(_write, seed), _is_complete, force)


def _write(seed: int, folder: Path) -> None:
    images, labels, splits = _draw(seed)
    grey = np.rint(images * (255 / LEVELS)).astype(np.uint8)
    for split, numbers in splits.items():
        for digit in range(10):
            (folder / split / str(digit)).mkdir(parents=True)
        for number in numbers:
            encoded, data = cv2.imencode(".png", grey[number])
            if not encoded:
                raise RuntimeError(f"OpenCV could not encode image {number} as PNG.")
            path = folder / split / str(labels[number]) / f"{number:04d}.png"
            path.write_bytes(data.tobytes())


def _draw(seed: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """All images (1797, 8, 8), their labels (1797,), and the sorted places of each split's."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise RuntimeError(
            f"the digits come with scikit-learn, which cannot be imported ({error}); install it: "
            "python -m pip install scikit-learn"
        ) from error
    digits = load_digits()
    rest, test = train_test_split(
        np.arange(len(digits.target)),
        test_size=SPLITS["test"],
        stratify=digits.target,
        random_state=seed,
    )
    train, val = train_test_split(
        rest, test_size=SPLITS["val"], stratify=digits.target[rest], random_state=seed
    )
    splits = dict(train=np.sort(train), val=np.sort(val), test=np.sort(test))
    return digits.images, digits.target, splits


def _is_complete(out: Path) -> bool:
    return all(
        sum(1 for _ in (out / split).glob("*/*.png")) == count for split, count in SPLITS.items()
    )
