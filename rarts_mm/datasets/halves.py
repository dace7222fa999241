"""Two disjoint random halves of one data set.

The search trains the primary network u on one half and the auxiliary network w on the other. What
is split is the data set of a usual MMEngine config, annotations and all: each half is an ordinary
data set that holds its own part only, so samplers, batch samplers and the visualiser work with it
as with any other.
"""

import hashlib
from collections.abc import Mapping

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

NAMES = ("primary", "auxiliary")


def split_halves(
    dataset_cfg: Mapping | BaseDataset, ratio: float = 0.5, seed: int = 0
) -> tuple[object, object, dict]:
    """Build a data set once and split it at random into two halves.

    Wrappers (``RepeatDataset``, ``ConcatDataset``, ``ClassBalancedDataset``,
    ``MultiImageMixDataset`` and others that hold ``dataset=dict(...)`` or ``datasets=[dict(...)]``)
    are split inside and put around each half anew: a repeated or mixed image stays in its half. So
    does an image with several entries (captions, say), or one that two members of a concatenation
    share. A ``KFoldDataset`` chooses its fold first; what it leaves is split.

    The split depends on (seed, ratio, images) only, so every process of a distributed run, and a
    resumed run, gets the same.

    Args:
        dataset_cfg: Config of a data set as in ``train_dataloader.dataset``, or a built one.
        ratio: Share of the images that goes to the primary half, in (0, 1).
        seed: Seed of the split.

    Returns:
        The primary half, the auxiliary half, and a record for the checkpoint: ``seed``,
        ``ratio``, ``lengths`` (samples of each half, repetitions counted), ``leaves`` (type and
        lengths of each innermost data set) and ``sha256`` of the index lists.

    Raises:
        ValueError: ``ratio`` is not in (0, 1), ``seed`` is not a whole number in [0, 2^32), a half
            would be empty, or the data set (or one that it wraps) cannot be split.
    """
    if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 < ratio < 1:
        raise ValueError(
            f"split.ratio={ratio!r}: the primary half's share of the images must lie between 0 and "
            "1, for example 0.5."
        )
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"split.seed={seed!r}: must be a whole number from 0 to {2**32 - 1}.")
    split = _Split(ratio, seed)
    halves = split.visit(dataset_cfg)
    record = split.record()
    record["lengths"] = {name: len(half) for name, half in zip(NAMES, halves, strict=True)}
    for name, length in record["lengths"].items():
        if length == 0:
            raise ValueError(
                f"The {name} half of the data set would be empty: split.ratio={ratio} of "
                f"{split.images} images. Use more images, or a ratio closer to 0.5."
            )
    return *halves, record


def check_halves(record: Mapping, batch_sizes: Mapping[str, int], world_size: int = 1) -> None:
    """See that each half fills at least one batch.

    Args:
        record: What :func:`split_halves` returned.
        batch_sizes: Batch size per process of the ``primary`` and the ``auxiliary`` half.
        world_size: Number of processes that share a half.

    Raises:
        ValueError: A half is smaller than a batch of all processes together.
    """
    for name in NAMES:
        length, batch_size = record["lengths"][name], batch_sizes[name]
        if length < batch_size * world_size:
            shared = f" on each of {world_size} processes" if world_size > 1 else ""
            most = max(length // world_size, 1)
            raise ValueError(
                f"The {name} half is too small for a batch: it has {length} samples, a batch is "
                f"{batch_size}{shared}. Use a batch size (times accumulative_counts) of at most "
                f"{most}, more images, or another ratio than {record['ratio']}."
            )


def check_same_split(saved: Mapping, current: Mapping) -> None:
    """See that a resumed search gets the halves that it was begun with.

    Args:
        saved: The record in the checkpoint.
        current: The record of this run's split.

    Raises:
        ValueError: The records differ; the message says in what.
    """
    if saved["sha256"] == current["sha256"]:
        return
    keys = [key for key in ("seed", "ratio") if saved[key] != current[key]]
    differences = "; ".join(f"{key} was {saved[key]}, is {current[key]}" for key in keys)
    was, now = ([(x["type"], x["length"]) for x in r["leaves"]] for r in (saved, current))
    if was != now:
        old, new = (", ".join(f"{n} images in a {kind}" for kind, n in each) for each in (was, now))
        differences += f"{'; ' if differences else ''}the data set was {old}, is {new}"
    raise ValueError(
        "This run splits the data set into other halves than the one that wrote the checkpoint: "
        f"{differences or 'the images differ'}. Resume with the same data set, seed and ratio, or "
        "start a new search from it with --cfg-options load_from=CHECKPOINT instead of --resume."
    )


class _Split:
    """Walks a config down to its innermost data sets (leaves), splits them, wraps the halves."""

    def __init__(self, ratio: float, seed: int):
        self.ratio = ratio
        self.seed = seed
        self.leaves: list[dict] = []
        self.digest = hashlib.sha256()
        self.half_of: dict[str, int] = {}  # image path -> 0 (primary) or 1 (auxiliary)

    @property
    def images(self) -> int:
        return sum(leaf["length"] for leaf in self.leaves)

    def record(self) -> dict:
        return dict(
            seed=self.seed,
            ratio=self.ratio,
            leaves=self.leaves,
            sha256=self.digest.hexdigest(),
        )

    def visit(self, cfg: Mapping | BaseDataset) -> tuple[object, object]:
        if not isinstance(cfg, Mapping):
            return self.split_leaf(cfg)
        if _is_kfold(cfg):
            # A fold of a half is not a half of the fold: the images held out would come back.
            folds = DATASETS.build(cfg)
            folds.full_init()
            return self.split_leaf(folds.dataset)
        if _is_config(cfg.get("dataset")):
            inner = self.visit(cfg["dataset"])
            return self.wrap(cfg, "dataset", [_prebuilt(half) for half in inner])
        members = cfg.get("datasets")
        if isinstance(members, (list, tuple)) and members and all(map(_is_config, members)):
            inner = [self.visit(member) for member in members]
            halves = [[_prebuilt(pair[side]) for pair in inner] for side in (0, 1)]
            return self.wrap(cfg, "datasets", halves)
        if isinstance(cfg.get("ann_file"), (list, tuple)):
            raise ValueError(
                f"Data set {cfg.get('type')}: ann_file is a list. Write "
                "ConcatDataset(datasets=[...]) with one data set for each annotation file."
            )
        return self.split_leaf(DATASETS.build(cfg))

    def wrap(self, cfg: Mapping, key: str, contents: list) -> tuple[object, object]:
        halves = []
        for content in contents:
            half = DATASETS.build({**cfg, key: content})
            if hasattr(half, "full_init"):
                half.full_init()
            halves.append(half)
        return tuple(halves)

    def split_leaf(self, dataset: object) -> tuple[BaseDataset, BaseDataset]:
        if not isinstance(dataset, BaseDataset):
            raise ValueError(
                f"A data set of type {type(dataset).__name__} cannot be split into halves: it is "
                "neither an mmengine.dataset.BaseDataset (which has get_subset) nor a wrapper "
                "given as a config with dataset=dict(...) or datasets=[dict(...)]. Derive it from "
                "BaseDataset, or give the wrapper as a config."
            )
        dataset.full_init()
        indices = self.assign(dataset)
        self.leaves.append(
            dict(
                type=type(dataset).__name__,
                length=len(dataset),
                **{name: len(part) for name, part in zip(NAMES, indices, strict=True)},
            )
        )
        for part in indices:
            self.digest.update(np.asarray([len(part), *part], "<i8").tobytes())
        return tuple(dataset.get_subset(part) for part in indices)

    def assign(self, dataset: BaseDataset) -> tuple[list[int], list[int]]:
        """Sorted indices of each half; entries of one image always go together."""
        groups: dict[str, list[int]] = {}
        for index in range(len(dataset)):
            path = dataset.get_data_info(index).get("img_path")
            # Data sets that hold their pixels (CIFAR) name no file: each entry is an image.
            key = f"{len(self.leaves)}#{index}" if path is None else str(path)
            groups.setdefault(key, []).append(index)
        wanted = round(self.ratio * len(dataset))
        halves: tuple[list[int], list[int]] = ([], [])
        free = []
        for key, members in groups.items():
            if key in self.half_of:
                halves[self.half_of[key]].extend(members)
            else:
                free.append(key)
        # RandomState's streams are frozen for good, those of numpy's newer generators are not, and
        # a run may be resumed after an update.
        order = np.random.RandomState([self.seed, len(self.leaves)]).permutation(len(free))
        for key in (free[i] for i in order):
            side = int(len(halves[0]) >= wanted)
            self.half_of[key] = side
            halves[side].extend(groups[key])
        return tuple(sorted(half) for half in halves)


def _is_config(value: object) -> bool:
    return isinstance(value, Mapping) and "type" in value


def _is_kfold(cfg: Mapping) -> bool:
    kind = cfg.get("type")
    name = kind if isinstance(kind, str) else getattr(kind, "__name__", "")
    return name.split(".")[-1] == "KFoldDataset"


def _prebuilt(dataset: object) -> dict:
    """A config that builds to ``dataset``.

    Wrappers take a config or a ``BaseDataset``, and refuse another wrapper that is built already.
    """

    def build() -> object:
        return dataset

    return dict(type=build)
