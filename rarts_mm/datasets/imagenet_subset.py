"""Some classes of ImageNet, drawn at random, as lists of images that MMPretrain's ``CustomDataset`` reads.

The thesis' ImageNet-20 (section 4.2.2) has 20 classes, 26,000 training and 1,000 validation images: 1300
and 50 of each class.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from .folder import write_data_set

VERSION = 1
"""Version of the draw: raised when the same seed gives other images."""

IMAGES = ("list", "link", "copy")
"""What becomes of the images: listed where they are, linked to, or copied."""

_ROLES = {"train": "training", "val": "validation"}
# What MMPretrain takes for an image.
_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif")


def make_imagenet_subset(
    imagenet: str | os.PathLike,
    out: str | os.PathLike = "data/imagenet20",
    classes: int = 20,
    train: int | None = 1300,
    val: int | None = 50,
    seed: int = 0,
    images: str = "list",
    annotations: str | os.PathLike | None = None,
    force: bool = False,
) -> dict[str, int] | None:
    """Draw classes of an ImageNet folder, and images of each.

    ``out`` receives ``classes.txt`` (a class per line, sorted: its place is the label), and
    ``train.txt`` and ``val.txt`` with a path and a label per line. The paths are relative to
    ``imagenet/train`` and ``imagenet/val``; of linked and copied images, to ``out/train`` and
    ``out/val``, where each class has a folder.

    What is drawn depends on the seed and on names alone: classes, and images within a class, are taken in
    the order of the SHA-256 of seed and name. The order of the file system has no part in it, and the 20
    classes of a seed are among its 30.

    Args:
        imagenet: holds ``train/<class>/*.JPEG`` and either ``val/<class>/*.JPEG`` or ``val/*.JPEG``.
        out: the folder to write. It appears whole or not at all.
        classes: how many to draw, out of those that have enough images.
        train, val: images of each class; None takes all that a class has.
        seed: non-negative seed of the draw.
        images: ``'list'`` leaves them where they are, ``'link'`` makes symbolic links, ``'copy'`` copies.
        annotations: for a ``val`` without folders, a file of lines "name label", where labels count the
            sorted folders of ``train``; None means ``imagenet/meta/val.txt``, which MMPretrain has too.
        force: replace another subset in ``out``.

    Returns:
        The number of images of ``'train'`` and ``'val'``, or None if ``out`` holds this subset already.

    Raises:
        ValueError: a bad argument, an empty class or image, or too few classes with enough images.
        FileNotFoundError: a folder, an image or the annotations are missing.
        FileExistsError: ``out`` holds something else, which is left alone.
    """
    wanted = dict(train=train, val=val)
    _check_arguments(classes, wanted, seed, images)
    imagenet = Path(imagenet)
    found = dict(train=_images_by_folder(imagenet, "train"))
    found["val"] = _validation_images(imagenet, found["train"], annotations)
    chosen = _draw_classes(found, wanted, classes, seed)

    lines: dict[str, list[str]] = {"classes.txt": chosen}
    sources: dict[Path, Path] = {}
    for split, by_class in found.items():
        lines[f"{split}.txt"] = listed = []
        for label, name in enumerate(chosen):
            for path in _draw(by_class[name], wanted[split], f"{seed}/{split}/{name}"):
                target = path if images == "list" else f"{name}/{Path(path).name}"
                sources[Path(split, target)] = imagenet / split / path
                listed.append(f"{target} {label}")
    _check_images(sources.values())

    counts = {split: len(lines[f"{split}.txt"]) for split in found}
    texts = {name: "".join(f"{line}\n" for line in rows) for name, rows in lines.items()}
    manifest = dict(
        generator="rarts_mm.imagenet_subset",
        version=VERSION,
        seed=seed,
        classes=classes,
        **counts,
        images=images,
        sha256=hashlib.sha256("\n".join(texts.values()).encode()).hexdigest(),
    )
    if images == "link":
        manifest["links_to"] = str(imagenet.resolve())
    put = {"link": os.symlink, "copy": shutil.copyfile}.get(images)
    targets = {path: source.resolve() for path, source in sources.items()} if put else {}
    made = write_data_set(
        out,
        manifest,
        partial(_write, texts, targets, put),
        partial(_is_complete, texts, targets),
        force,
    )
    return counts if made else None


def _check_arguments(
    classes: int, wanted: Mapping[str, int | None], seed: int, images: str
) -> None:
    if not _is_whole(seed, 0):
        raise ValueError(f"seed={seed!r}: must be a whole number from 0 on.")
    if not _is_whole(classes, 1):
        raise ValueError(f"classes={classes!r}: must be a whole number from 1 on, such as 20.")
    for split, number in wanted.items():
        if number is not None and not _is_whole(number, 1):
            raise ValueError(
                f"{split}={number!r}: the {_ROLES[split]} images of a class must be a whole number from "
                "1 on, or None for all."
            )
    if images not in IMAGES:
        raise ValueError(f"images={images!r}: must be one of {', '.join(IMAGES)}.")


def _is_whole(number: object, least: int) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= least


def _images_by_folder(imagenet: Path, split: str) -> dict[str, list[str]]:
    """Class -> paths of its images relative to the split's folder."""
    folder = imagenet / split
    classes = _folders(folder, split)
    if not classes:
        raise FileNotFoundError(
            f"{folder} has no folders: ImageNet's {_ROLES[split]} images are expected as "
            f"{folder}/<class>/*.JPEG. Sort the images into a folder per class."
        )
    found = {name: _image_names(folder / name, name) for name in classes}
    if empty := [name for name, paths in found.items() if not paths]:
        raise ValueError(
            f"{folder} has classes without any image: {_some(empty)}. Unpack their archives again, or "
            "remove the empty folders."
        )
    return found


def _folders(folder: Path, split: str) -> list[str]:
    """The names of a split's classes, sorted: one folder that is none would shift all labels."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder}, the folder of the {_ROLES[split]} images, does not exist: give the folder of "
            "ImageNet that holds train/ and val/."
        )
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _image_names(folder: Path, prefix: str) -> list[str]:
    with os.scandir(folder) as entries:
        names = (entry.name for entry in entries)
        return [f"{prefix}/{name}" for name in names if name.lower().endswith(_EXTENSIONS)]


def _validation_images(
    imagenet: Path, train: Mapping[str, list[str]], annotations: str | os.PathLike | None
) -> dict[str, list[str]]:
    folder = imagenet / "val"
    if annotations is None and _folders(folder, "val"):
        found = _images_by_folder(imagenet, "val")
    else:
        path = imagenet / "meta" / "val.txt" if annotations is None else Path(annotations)
        found = _annotated_images(folder, path, sorted(train))
    if missing := sorted(train.keys() - found.keys()):
        raise ValueError(
            f"{folder} has no images of classes that {imagenet / 'train'} has: {_some(missing)}. Complete "
            "the validation images, or remove those classes from train/."
        )
    return found


def _annotated_images(folder: Path, path: Path, classes: list[str]) -> dict[str, list[str]]:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist, and {folder} has no folder per class, so that the classes of its "
            "images are unknown. Give a file of lines 'name label' with --val-annotations; MMPretrain's "
            "is meta/val.txt in https://download.openmmlab.com/mmclassification/datasets/imagenet/meta/"
            "caffe_ilsvrc12.tar.gz"
        )
    found: dict[str, list[str]] = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        name, _, label = line.strip().rpartition(" ")
        if not (name and label.isdecimal()):
            raise ValueError(f"{path}, line {number}: {line!r} is not of the form 'name label'.")
        if int(label) >= len(classes):
            raise ValueError(
                f"{path}, line {number}: label {label} counts the sorted folders of train/, which has "
                f"{len(classes)} only. Take the whole of ImageNet's train/, or annotations made for this "
                "one."
            )
        found.setdefault(classes[int(label)], []).append(name)
    return found


def _draw_classes(
    found: Mapping[str, Mapping[str, list[str]]],
    wanted: Mapping[str, int | None],
    number: int,
    seed: int,
) -> list[str]:
    classes = list(found["train"])
    enough = [
        name
        for name in classes
        if all(len(found[split][name]) >= (least or 1) for split, least in wanted.items())
    ]
    if len(enough) < number:
        asked = " and ".join(f"{n} {_ROLES[split]}" for split, n in wanted.items() if n is not None)
        of_these = f", {len(enough)} of them with {asked} images" if asked else ""
        options = [f"--{split}" for split, n in wanted.items() if n is not None]
        remedy = f", or fewer images with {' and '.join(options)}" if len(classes) >= number else ""
        raise ValueError(
            f"{number} classes were asked for; there are {len(classes)}{of_these}. Ask for fewer "
            f"classes with --classes{remedy}."
        )
    return _draw(enough, number, str(seed))


def _draw(names: Iterable[str], number: int | None, key: str) -> list[str]:
    """The first ``number`` names in the order of a hash, sorted; None takes all."""

    def place(name: str) -> bytes:
        return hashlib.sha256(f"{key}/{Path(name).name}".encode()).digest()

    return sorted(sorted(names, key=place)[:number])


def _check_images(paths: Iterable[Path]) -> None:
    sizes = {path: path.stat().st_size if path.is_file() else None for path in paths}
    if missing := [str(path) for path, size in sizes.items() if size is None]:
        raise FileNotFoundError(
            f"Annotated images are missing: {_some(missing)}. Unpack the validation images again."
        )
    if empty := [str(path) for path, size in sizes.items() if not size]:
        raise ValueError(f"Image files are empty: {_some(empty)}. Unpack their archives again.")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _write(
    texts: Mapping[str, str],
    targets: Mapping[Path, Path],
    put: Callable[[Path, Path], object] | None,
    folder: Path,
) -> None:
    for name, text in texts.items():
        (folder / name).write_text(text)
    for parent in {path.parent for path in targets}:
        (folder / parent).mkdir(parents=True)
    for path, source in targets.items():
        put(source, folder / path)


def _is_complete(texts: Mapping[str, str], targets: Mapping[Path, Path], out: Path) -> bool:
    written = {name: out / name for name in texts}
    return all(
        path.is_file() and path.read_text() == texts[name] for name, path in written.items()
    ) and all((out / path).is_file() for path in targets)
