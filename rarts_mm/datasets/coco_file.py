"""What an annotation file in COCO format must hold, before anything is trained or tested on it.

MMDetection drops what it cannot use without a word, or fails far from the file. What is refused here is
what nobody means: numbers that are none, negative sides, boxes far beyond their image, categories
that the file does not have. A box with a side below one pixel is no mistake of the file: COCO's own
have some, and MMDetection leaves them out.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from rarts_mm.files import read_json

# A box reaches so many times the larger side of its image at the most. Boxes that are cut off by the
# image's border, and annotators' slips, stay far below.
FAR = 10
_SHOWN = 3  # entries in a message
_NAMED = 6  # classes in a message


class AnnotationError(ValueError):
    """An annotation file that cannot be used; the message names it, the entries and the remedy."""


def read_annotations(path: str | Path) -> dict[str, Any]:
    """Read a file in COCO format and check it.

    Raises:
        AnnotationError: it is no JSON, or :func:`check_annotations` refuses it.
        OSError: it cannot be read.
    """
    try:
        content = read_json(path)
    except ValueError as error:
        raise AnnotationError(
            f"annotations {path} cannot be read: {error}. Get the file anew, or correct it there"
        ) from error
    check_annotations(content, path)
    return content


def check_annotations(content: Any, path: str | Path) -> None:
    """See that the content of a file is of the COCO format and makes sense.

    ``annotations`` may be missing, as in files of images to be predicted.

    Raises:
        AnnotationError: with the first entries that are wrong.
    """
    if not isinstance(content, dict):
        raise AnnotationError(
            f"annotations {path} hold a JSON {_kind(content)}, not an object with images, annotations "
            "and categories (the COCO format)"
        )
    for key in ("images", "categories", "annotations"):
        if key not in content and key != "annotations":
            raise AnnotationError(
                f"annotations {path} have no {key!r}: the COCO format has images, annotations and "
                "categories"
            )
        entries = content.get(key, [])
        if not isinstance(entries, list):
            raise AnnotationError(
                f"annotations {path}: {key!r} is a JSON {_kind(entries)}, not a list (the COCO format)"
            )
    # In this order, as the later ones rely on the earlier ones.
    for key, wrong in (("categories", _categories), ("images", _images), ("annotations", _boxes)):
        found = wrong(content)
        first = list(islice(found, _SHOWN))
        if first:
            more = sum(1 for _ in found)
            rest = f"; and {more} more" if more else ""
            raise AnnotationError(
                f"{key} in {path}: {'; '.join(first)}{rest}. Correct or remove these entries"
            )


def check_classes(content: dict[str, Any], path: str | Path, classes: Sequence[str]) -> list[str]:
    """See that the file has some of a data set's classes; return those, in the order of the labels.

    MMDetection numbers classes as the file's categories stand, whatever the order of ``metainfo``.

    Raises:
        AnnotationError: it has none of them.
    """
    names = [category["name"] for category in content["categories"]]
    if found := [name for name in names if name in classes]:
        return found
    raise AnnotationError(
        f"no image left of annotations {path}: the classes of the data set are ({_listed(classes)}), the "
        f"file has {_listed(names) or 'no categories'}; set the data set's metainfo, for example "
        f"metainfo=dict(classes={tuple(names[:_NAMED])!r})"
    )


def count_usable(content: dict[str, Any], classes: Sequence[str]) -> int:
    """How many boxes MMDetection would train on: of these classes, not ignored, not degenerate."""
    wanted = {c["id"] for c in content["categories"] if c["name"] in classes}
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    count = 0
    for entry in content.get("annotations", []):
        if entry.get("ignore") or entry.get("iscrowd") or entry["category_id"] not in wanted:
            continue
        x, y, w, h = entry["bbox"]
        width, height = sizes.get(entry["image_id"], (0, 0))
        inside = min(x + w, width) > max(x, 0) and min(y + h, height) > max(y, 0)
        count += inside and entry["area"] > 0 and w >= 1 and h >= 1
    return count


def count_images(content: dict[str, Any], classes: Sequence[str], min_size: float) -> int:
    """How many images have an annotation of these classes, and sides of at least ``min_size``."""
    wanted = {c["id"] for c in content["categories"] if c["name"] in classes}
    annotations = content.get("annotations", [])
    annotated = {a["image_id"] for a in annotations if a["category_id"] in wanted}
    return sum(
        image["id"] in annotated and min(image["width"], image["height"]) >= min_size
        for image in content["images"]
    )


def _categories(content: dict[str, Any]) -> Iterator[str]:
    for place, entry in enumerate(content["categories"]):
        if reason := _lacks(entry, ("id", "name")):
            yield f"number {place} {reason}"
        elif not isinstance(entry["name"], str):
            yield f"number {place} has the name {entry['name']!r}, which is no text"
        elif not _is_id(entry["id"]):
            yield f"number {place} has the id {entry['id']!r}"


def _images(content: dict[str, Any]) -> Iterator[str]:
    for place, entry in enumerate(content["images"]):
        if reason := _lacks(entry, ("id", "file_name", "width", "height")):
            yield f"number {place} {reason}"
            continue
        name = entry["file_name"]
        if not isinstance(name, str) or not name:
            yield f"number {place} has the file_name {name!r}"
        elif not _is_id(entry["id"]):
            yield f"{name!r} has the id {entry['id']!r}"
        elif odd := [key for key in ("width", "height") if not _is_side(entry[key])]:
            yield f"{name!r} has the {odd[0]} {entry[odd[0]]!r}"


def _boxes(content: dict[str, Any]) -> Iterator[str]:
    images = {image["id"]: image for image in content["images"]}
    categories = {category["id"] for category in content["categories"]}
    for place, entry in enumerate(content.get("annotations", [])):
        if reason := _lacks(entry, ("id", "image_id", "category_id")):
            yield f"number {place} {reason}"
            continue
        if not (_is_id(entry["id"]) and _is_id(entry["image_id"])):
            yield f"number {place} has the ids {entry['id']!r} and {entry['image_id']!r}"
            continue
        image = images.get(entry["image_id"])
        if reason := _wrong_box(entry, image, categories):
            where = f" (image {image['file_name']!r})" if image else ""
            yield f"id {entry['id']}{where} {reason}"


def _wrong_box(entry: dict[str, Any], image: dict | None, categories: set) -> str | None:
    category = entry["category_id"]
    if not _is_id(category) or category not in categories:
        return f"has the category_id {category!r}, which is none of the file's categories"
    # MMDetection does not look at the box then.
    if entry.get("ignore"):
        return None
    if reason := _lacks(entry, ("bbox", "area")):
        return reason
    box = entry["bbox"]
    if not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
        return f"has the bbox {box!r}, which is not [x, y, width, height] in finite numbers"
    if not _is_number(entry["area"]) or entry["area"] < 0:
        return f"has the area {entry['area']!r}"
    if box[2] < 0 or box[3] < 0:
        return f"has the bbox {box!r}, with a negative side"
    if image is not None and max(map(abs, box)) > FAR * max(image["width"], image["height"]):
        size = f"{image['width']} x {image['height']}"
        return f"has the bbox {box!r}, far beyond the image's {size} pixels"
    return None


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _lacks(entry: Any, keys: Sequence[str]) -> str | None:
    if not isinstance(entry, dict):
        return f"is a JSON {_kind(entry)}, not an object"
    missing = [key for key in keys if key not in entry]
    return f"has no {', no '.join(missing)}" if missing else None


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)


def _is_side(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_id(value: Any) -> bool:
    # Numbers as a rule; some tools write text. MMDetection takes what can be a key.
    return isinstance(value, str) or _is_number(value)


_KINDS = {dict: "object", list: "list", str: "string", bool: "boolean", type(None): "null"}


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "number")
