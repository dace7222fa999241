"""A generated instance-segmentation data set in COCO format.

Images of one to four shapes on noisy backgrounds: several classes, sizes, angles, colours and
textures, with shapes that overlap (later ones hide earlier ones) and shapes cut by the border. The
class is decided by the outline; colour is a hint as strong as ``cue`` says (0: none), and texture
carries no information. It lets the whole chain run without a download, and a small detector learn
it in minutes.

Geometry is exact: an annotation is the *visible* part of the drawn outline, as in COCO, computed
on polygons and not traced from pixels. A visible part with a hole (a small shape on a large one) is
cut into pieces without holes, because COCO polygons cannot have any.

Image ``i`` of a split is a function of (seed, split, i, size, classes, cue) only: a smaller data
set is a prefix of a larger one.
"""

import itertools
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from shapely import affinity
from shapely.geometry import MultiPolygon, Polygon, box
from shapely.geometry.base import BaseGeometry

from .folder import write_data_set

VERSION = 1
"""Version of the pictures: raised when the same arguments give other bytes."""

# Terabytes, or pictures that no memory holds, are a slip of the hand.
_MOST_IMAGES, _LARGEST_SIZE = 1_000_000, 8192

SPLITS = ("train", "val")
DEFAULT_CLASSES = ("circle", "rectangle", "triangle")

DEFAULT_CUE = 0.9

_MAX_SHAPES = 4
_MIN_VISIBLE = 0.4  # of the whole outline: a shape that would leave less of any other is not placed
_TRIES = 20
_HINT_SPREAD = 35.0  # of each channel, around the class's colour
_SUPERSAMPLE = 4
_MIN_PIECE = 1.0  # square pixels: smaller slivers of a visible part are not worth a polygon


# Outlines: unit size (the outermost point lies at distance 1 from the centre), any angle.


def _around(radii: Sequence[float], start: float = 0.0) -> Polygon:
    """A polygon of vertices at equal angles and the given distances from the centre."""
    step = 2 * math.pi / len(radii)
    return Polygon(
        [
            (r * math.cos(start + i * step), r * math.sin(start + i * step))
            for i, r in enumerate(radii)
        ]
    )


def _circle(rng: np.random.Generator) -> Polygon:
    return _around([1.0] * 40)


def _rectangle(rng: np.random.Generator) -> Polygon:
    ratio = rng.uniform(0.5, 1.0)
    half = 1 / math.hypot(1, ratio)
    return box(-half, -half * ratio, half, half * ratio)


def _triangle(rng: np.random.Generator) -> Polygon:
    apex = rng.uniform(-0.3, 0.3)
    return Polygon(
        [
            (math.sin(apex), math.cos(apex)),
            (-math.sqrt(0.75), -0.5),
            (math.sqrt(0.75), -0.5),
        ]
    )


def _star(rng: np.random.Generator) -> Polygon:
    inner = rng.uniform(0.38, 0.48)
    return _around([1.0, inner] * 5)


def _cross(rng: np.random.Generator) -> Polygon:
    arm = rng.uniform(0.28, 0.4)
    length = math.sqrt(1 - arm**2)
    return box(-length, -arm, length, arm).union(box(-arm, -length, arm, length))


_OUTLINES: dict[str, Callable[[np.random.Generator], Polygon]] = {
    "circle": _circle,
    "rectangle": _rectangle,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
}
_PALETTE = {
    "circle": (220, 20, 60),
    "rectangle": (30, 110, 220),
    "triangle": (40, 170, 70),
    "star": (240, 180, 20),
    "cross": (150, 60, 200),
}
CLASSES = tuple(_OUTLINES)
"""Every class that the generator can draw."""


def shapes_metainfo(classes: Sequence[str] = DEFAULT_CLASSES) -> dict:
    """``metainfo`` for mmdet's ``CocoDataset``: class names and their colours, in label order."""
    classes = _check_classes(classes)
    return dict(classes=classes, palette=[_PALETTE[name] for name in classes])


@dataclass
class _Shape:
    label: int
    outline: Polygon  # whole, in pixels from the image's upper left corner
    visible: BaseGeometry  # what the border and later shapes leave of it


# Pictures


def _textured(rng: np.random.Generator, size: int, colour: np.ndarray) -> np.ndarray:
    """A (size, size, 3) float image of one texture around ``colour``."""
    other = np.clip(colour + rng.choice([-1, 1]) * rng.uniform(35, 70, 3), 0, 255)
    kind = rng.choice(["plain", "stripes", "dots", "noise"])
    if kind == "plain":
        share = np.zeros((size, size))
    elif kind == "noise":
        coarse = rng.random((max(size // 6, 2),) * 2)
        share = np.clip(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), 0, 1)
    else:
        angle, phase = rng.uniform(0, math.pi), rng.uniform(0, 2 * math.pi)
        pitch = 2 * math.pi / (size * rng.uniform(0.05, 0.1))
        y, x = np.mgrid[:size, :size] * pitch
        along = np.sin(math.cos(angle) * x + math.sin(angle) * y + phase)
        if kind == "stripes":
            share = (along > 0).astype(float)
        else:
            across = np.sin(math.cos(angle) * y - math.sin(angle) * x + phase)
            share = (along * across > 0.35).astype(float)
    return colour + share[..., None] * (other - colour)


def _coverage(outline: Polygon, size: int) -> np.ndarray:
    """Share of each pixel that ``outline`` covers, (size, size) in [0, 1]."""
    fine = np.zeros((size * _SUPERSAMPLE,) * 2, np.uint8)
    # A polygon's coordinates count from a pixel's corner, OpenCV's from its centre.
    corners = np.asarray(outline.exterior.coords) * _SUPERSAMPLE - 0.5
    shift = 4
    cv2.fillPoly(fine, [np.rint(corners * 2**shift).astype(np.int32)], 255, shift=shift)
    return cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA) / 255.0


def _background(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A smooth random background (size, size, 3), and its mean colour."""
    mean = rng.uniform(40, 215, 3)
    coarse = mean + rng.normal(0, 12, (4, 4, 3))
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), mean


def _contrasting(
    rng: np.random.Generator, background: np.ndarray, hint: Sequence[float] | None
) -> np.ndarray:
    """A BGR colour that is not close to the background's: near ``hint``, or any."""
    for attempt in itertools.count():
        if hint is None or attempt > _TRIES:
            colour = rng.uniform(0, 255, 3)
        else:
            colour = np.clip(rng.normal(hint, _HINT_SPREAD), 0, 255)
        if np.linalg.norm(colour - background) > 90:
            return colour


def _place(rng: np.random.Generator, size: int, classes: Sequence[str]) -> list[_Shape]:
    """One to four shapes, first the hindmost, each of which stays well visible."""
    frame = box(0, 0, size, size)
    shapes: list[_Shape] = []
    for _ in range(rng.integers(1, _MAX_SHAPES + 1)):
        for _ in range(_TRIES):
            label = int(rng.integers(len(classes)))
            radius = size * rng.uniform(0.1, 0.26)
            outline = _OUTLINES[classes[label]](rng)
            outline = affinity.rotate(outline, rng.uniform(0, 360), origin=(0, 0))
            centre = rng.uniform(0.05 * size, 0.95 * size, 2)
            outline = affinity.affine_transform(outline, [radius, 0, 0, radius, *centre])
            new = _Shape(label, outline, outline.intersection(frame))
            rest = [_Shape(s.label, s.outline, s.visible.difference(outline)) for s in shapes]
            if all(s.visible.area >= _MIN_VISIBLE * s.outline.area for s in [*rest, new]):
                shapes = [*rest, new]
                break
    return shapes


def _without_holes(part: Polygon) -> Iterator[Polygon]:
    """Cut a polygon at its holes into pieces that have none."""
    if not part.interiors:
        yield part
        return
    left, low, right, high = part.bounds
    cut = part.interiors[0].centroid.x
    for side in (box(left, low, cut, high), box(cut, low, right, high)):
        for piece in _polygons(part.intersection(side)):
            yield from _without_holes(piece)


def _polygons(geometry: BaseGeometry) -> list[Polygon]:
    """The polygons of a geometry; the points and lines of a touching intersection are dropped."""
    return [part for part in getattr(geometry, "geoms", [geometry]) if isinstance(part, Polygon)]


def _annotate(shape: _Shape) -> dict | None:
    """COCO fields of a visible part: polygons, box (x, y, w, h) and area, in pixels."""
    rounded = [
        Polygon(np.round(np.asarray(piece.exterior.coords), 2))
        for part in _polygons(shape.visible)
        for piece in _without_holes(part)
    ]
    pieces = [piece for piece in rounded if piece.is_valid and piece.area >= _MIN_PIECE]
    if not pieces:
        return None
    left, low, right, high = MultiPolygon(pieces).bounds
    return dict(
        category_id=shape.label + 1,
        segmentation=[
            [float(v) for v in np.asarray(piece.exterior.coords)[:-1].ravel()] for piece in pieces
        ],
        bbox=[round(v, 2) for v in (left, low, right - left, high - low)],
        area=round(sum(piece.area for piece in pieces), 2),
        iscrowd=0,
    )


def draw(
    index: int,
    split: str = "train",
    size: int = 96,
    seed: int = 0,
    classes: Sequence[str] = DEFAULT_CLASSES,
    cue: float = DEFAULT_CUE,
) -> tuple[np.ndarray, list[dict]]:
    """Image ``index`` of a split and its annotations.

    Args are those of :func:`make_shapes`.

    Returns:
        The BGR image, uint8 (size, size, 3), and a list of COCO annotations without ids.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    image, mean = _background(rng, size)
    shapes = _place(rng, size, classes)
    for shape in shapes:
        cover = _coverage(shape.outline, size)[..., None]
        hint = _PALETTE[classes[shape.label]][::-1] if rng.random() < cue else None
        colour = _contrasting(rng, mean, hint)
        image = (1 - cover) * image + cover * _textured(rng, size, colour)
    image = image + rng.normal(0, rng.uniform(4, 12), image.shape)
    annotations = [a for a in map(_annotate, shapes) if a is not None]
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), annotations


# Files


def make_shapes(
    out: str | os.PathLike = "data/shapes",
    train: int = 400,
    val: int = 100,
    size: int = 96,
    seed: int = 0,
    classes: Sequence[str] = DEFAULT_CLASSES,
    cue: float = DEFAULT_CUE,
    force: bool = False,
) -> bool:
    """Write a data set: ``train/*.png``, ``val/*.png`` and ``annotations/{train,val}.json``.

    The folder appears whole or not at all. A folder that already holds the data set of the same
    arguments (its ``manifest.json`` says so) is left as it is.

    Args:
        out: The folder.
        train: Number of training images.
        val: Number of validation images.
        size: Height and width of every image, in pixels.
        seed: Non-negative seed of everything random.
        classes: Class names, a subset of ``CLASSES``; their order is the order of the labels.
        cue: Share of the shapes, in [0, 1], whose colour is near their class's.
        force: Replace a data set that this function made with other arguments.

    Returns:
        True if the data set was made, False if it was already there.

    Raises:
        ValueError: An argument out of range.
        FileExistsError: ``out`` holds something else, which is left alone.
    """
    classes = _check_classes(classes)
    for name, value, least, most in (
        ("train", train, 1, _MOST_IMAGES),
        ("val", val, 1, _MOST_IMAGES),
        ("size", size, 32, _LARGEST_SIZE),
    ):
        if value < least:
            raise ValueError(f"{name}={value}: must be at least {least}.")
        if value > most:
            raise ValueError(f"{name}={value}: must be at most {most:,}, for the sake of the disk.")
    if seed < 0:
        raise ValueError(f"seed={seed}: must not be negative.")
    if not 0 <= cue <= 1:
        raise ValueError(f"cue={cue}: must be a share in [0, 1].")
    manifest = dict(
        generator="rarts_mm.shapes",
        version=VERSION,
        train=train,
        val=val,
        size=size,
        seed=seed,
        classes=list(classes),
        cue=cue,
    )

    def fill(folder: Path) -> None:
        (folder / "annotations").mkdir()
        for split, count in (("train", train), ("val", val)):
            _write_split(folder, split, count, size, seed, classes, cue)

    return write_data_set(out, manifest, fill, partial(_is_complete, manifest), force)


def _write_split(
    root: Path,
    split: str,
    count: int,
    size: int,
    seed: int,
    classes: Sequence[str],
    cue: float,
) -> None:
    (root / split).mkdir()
    images, annotations = [], []
    for index in range(count):
        image, found = draw(index, split, size, seed, classes, cue)
        file_name = f"{index:06d}.png"
        encoded, data = cv2.imencode(".png", image)
        if not encoded:
            raise RuntimeError(f"OpenCV could not encode image {index} as PNG.")
        (root / split / file_name).write_bytes(data.tobytes())
        images.append(dict(id=index + 1, file_name=file_name, height=size, width=size))
        for annotation in found:
            annotations.append(dict(id=len(annotations) + 1, image_id=index + 1, **annotation))
    coco = dict(
        info=dict(description="rarts_mm shapes", version=str(VERSION)),
        licenses=[],
        images=images,
        annotations=annotations,
        categories=[
            dict(id=label + 1, name=name, supercategory="shape")
            for label, name in enumerate(classes)
        ],
    )
    (root / "annotations" / f"{split}.json").write_text(json.dumps(coco))


def _is_complete(manifest: dict, out: Path) -> bool:
    return all(
        (out / "annotations" / f"{split}.json").is_file()
        and sum(1 for _ in (out / split).glob("*.png")) == manifest[split]
        for split in SPLITS
    )


def _check_classes(classes: Sequence[str]) -> tuple[str, ...]:
    classes = tuple(classes)
    unknown = [name for name in classes if name not in _OUTLINES]
    if unknown or not classes or len(set(classes)) < len(classes):
        raise ValueError(
            f"classes={classes}: give one or more different names out of {', '.join(CLASSES)}."
        )
    return classes
