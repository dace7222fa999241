"""Two disjoint halves of one training set (thesis, section 2.2)."""

import hashlib
from collections.abc import Mapping

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from torch.utils.data import Dataset


def split_halves(
    dataset: Mapping, ratio: float = 0.5, seed: int = 0
) -> tuple[Dataset, Dataset, dict]:
    """Build a data set's config and split it into a primary and an auxiliary half.

    The halves are drawn at random from the seed alone, so they are the same on every rank and in
    every run. Wrappers (repeating, balancing, mixing, concatenating) are split *inside*: what they
    wrap is split and each half gets a wrapper of its own, or an image that is repeated, or mixed
    into another, would be in both halves.

    Args:
        dataset: config of a MMEngine data set, wrapped or not.
        ratio: share of the images that goes to the primary half D_p, in (0, 1).
        seed: seed of the permutation.

    Returns:
        The primary half, the auxiliary half, and a record of the split for checkpoints:
        ``dict(ratio, seed, primary=<images>, auxiliary=<images>, digest=<SHA-256 of the indices>)``.

    Raises:
        ValueError: a ratio outside (0, 1), or a half that would be empty.
        TypeError: a data set that cannot be split.
    """
    if not (isinstance(ratio, int | float) and 0 < ratio < 1):
        raise ValueError(
            f"split.ratio is the primary half's share of the images and must lie strictly between 0 "
            f"and 1, got {ratio!r}; 0.5 makes equal halves"
        )
    if not isinstance(seed, int):
        raise ValueError(f"split.seed must be a whole number, got {seed!r}")
    splitter = _Splitter(ratio, seed)
    primary, auxiliary = splitter.split(dataset)
    built = [DATASETS.build(d) if isinstance(d, Mapping) else d for d in (primary, auxiliary)]
    for half in built:
        if hasattr(half, "full_init"):
            half.full_init()
    return built[0], built[1], splitter.record()


def check_halves(primary: Dataset, auxiliary: Dataset, batch_size: int) -> None:
    """Raise if a half cannot fill one batch of all processes together."""
    for name, half in (("primary", primary), ("auxiliary", auxiliary)):
        if len(half) < batch_size:
            raise ValueError(
                f"the {name} half has {len(half)} images, less than one batch of {batch_size} (all "
                "processes together). Lower train_dataloader.batch_size, shift train_cfg.split.ratio "
                "or use more data"
            )


class _Splitter:
    """Walks a config down to the data sets that hold images, and splits each."""

    def __init__(self, ratio: float, seed: int) -> None:
        self.ratio, self.seed = ratio, seed
        self.generator = np.random.default_rng(seed)
        self.sizes = [0, 0]
        self.digest = hashlib.sha256()

    def split(self, cfg: Mapping) -> tuple:
        """Return what to build for the primary and for the auxiliary half: a config or a data set."""
        inner = cfg.get("datasets")
        if isinstance(inner, list | tuple):
            pairs = [self.split(c) for c in inner]
            return tuple(dict(cfg, datasets=[pair[i] for pair in pairs]) for i in (0, 1))
        inner = cfg.get("dataset")
        if isinstance(inner, Mapping):
            pair = self.split(inner)
            return tuple(dict(cfg, dataset=_built(half)) for half in pair)
        return self._split_leaf(cfg)

    def _split_leaf(self, cfg: Mapping) -> tuple[BaseDataset, BaseDataset]:
        dataset = DATASETS.build(cfg)
        if not isinstance(dataset, BaseDataset):
            raise TypeError(
                f"{type(dataset).__name__} cannot be split into halves: it is no "
                "mmengine.dataset.BaseDataset. Derive the data set from it (load_data_list)"
            )
        dataset.full_init()
        total = len(dataset)
        count = round(self.ratio * total)
        if not 0 < count < total:
            raise ValueError(
                f"split.ratio={self.ratio} leaves a half of {type(dataset).__name__} empty: it has "
                f"{total} images, of which {count} would be primary"
            )
        order = self.generator.permutation(total)
        halves = [np.sort(order[:count]), np.sort(order[count:])]
        for i, indices in enumerate(halves):
            self.sizes[i] += len(indices)
            self.digest.update(indices.astype("<i8").tobytes())
        primary, auxiliary = (dataset.get_subset(indices.tolist()) for indices in halves)
        return primary, auxiliary

    def record(self) -> dict:
        return dict(
            ratio=float(self.ratio),
            seed=self.seed,
            primary=self.sizes[0],
            auxiliary=self.sizes[1],
            digest=self.digest.hexdigest(),
        )


def _built(dataset: Mapping | Dataset) -> Dataset:
    return DATASETS.build(dataset) if isinstance(dataset, Mapping) else dataset
