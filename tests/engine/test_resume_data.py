"""The data side of exact resume: an epoch entered in its middle, samplers with a memory, mixed images."""

import copy
import pickle
import random
from typing import ClassVar

import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform, RandomChoice
from mmdet.datasets import AspectRatioBatchSampler, MultiImageMixDataset
from mmdet.datasets.transforms import CachedMixUp, CachedMosaic, Mosaic
from mmengine.dataset import Compose, DefaultSampler, InfiniteSampler
from torch.utils.data import RandomSampler

from rarts_mm.engine.caches import caching_transforms
from rarts_mm.engine.half_batches import Draw, HalfBatches, SeededDataset
from tests import tiny
from tests.engine.resuming import ITERATIONS, CutOff, assert_same_search, data, run


class Images:
    """13 images, upright and flat ones, of which only the size is known."""

    metainfo: ClassVar[dict] = dict(classes=("a",))

    def __init__(self) -> None:
        self.pipeline = "first"

    def __len__(self) -> int:
        return 13

    def __getitem__(self, index: int) -> tuple:
        return index, random.random(), float(np.random.rand()), float(torch.rand(1))

    def get_data_info(self, index: int) -> dict:
        return dict(width=3 + index % 3, height=4)


GROUPED = dict(type=AspectRatioBatchSampler)


def batches(kind, inner=None, length=None, **kwargs) -> HalfBatches:
    images = Images()
    if kind is RandomSampler:
        sampler = RandomSampler(images)
        sampler.dataset = images
    else:
        sampler = kind(images, shuffle=True, seed=3)
    out = HalfBatches(sampler, 3, copy.deepcopy(inner), seed=3, rank=0, half=1, **kwargs)
    out.length = length or out.length
    return out


@pytest.mark.parametrize("kind", [DefaultSampler, InfiniteSampler, RandomSampler])
@pytest.mark.parametrize("inner", [None, GROUPED], ids=["plain", "grouped"])
@pytest.mark.parametrize("length", [None, 7, 13])
def test_an_epoch_entered_in_its_middle_is_the_rest_of_it(kind, inner, length):
    whole = batches(kind, inner, length)
    assert len(whole) == (length or 5)
    epochs = []
    for epoch in range(3):
        whole.epoch = epoch
        epochs.append(list(whole))
    assert all(len(epoch) == len(whole) for epoch in epochs)
    assert len({str(epoch) for epoch in epochs}) == 3
    seeds = [draw.key for epoch in epochs for batch in epoch for draw in batch]
    assert len(set(seeds)) == len(seeds)
    for epoch in (2, 1):
        for start in (0, 1, 4, len(whole)):
            torch.manual_seed(start)
            again = batches(kind, inner, length)
            again.epoch, again.start = epoch, start
            assert list(again) == epochs[epoch][start:]
            assert len(again) == len(whole)


def test_batches_that_are_dropped_are_made_up_for_by_another_pass():
    """A grouping sampler may give fewer batches than its length says."""
    inner = dict(GROUPED, drop_last=True)
    halves = batches(DefaultSampler, inner, 9)
    given = list(halves)
    assert [len(batch) for batch in given] == [3] * 9
    sampler = DefaultSampler(Images(), seed=3)
    none = HalfBatches(sampler, 13, inner, seed=3, rank=0, half=0)
    none.length = 2
    with pytest.raises(RuntimeError, match="gave no batch in a whole pass over 13 samples"):
        list(none)


def test_samples_depend_on_their_draw_alone():
    images = Images()
    seeded = SeededDataset(images)
    draw = Draw(4, (5, 0, 1, 2, 3))
    first = seeded[draw]
    for i in range(3):
        seeded[Draw(4, (5, 0, 1, 2, 4 + i))]
    assert seeded[draw] == first == pickle.loads(pickle.dumps(seeded))[draw]
    others = [
        seeded[Draw(4, key)][1:] for key in ((5, 0, 0, 2, 3), (5, 1, 1, 2, 3), (6, 0, 1, 2, 3))
    ]
    assert all(len({*values, mine}) == 4 for *values, mine in zip(*others, first[1:], strict=True))
    torch.manual_seed(0)
    free = seeded[4]
    torch.manual_seed(0)
    assert free[3] == images[4][3]


def test_a_seeded_data_set_passes_for_the_data_set():
    images = Images()
    seeded = SeededDataset(images)
    assert isinstance(seeded, Images)
    assert seeded.metainfo == images.metainfo
    assert len(seeded) == 13
    seeded.pipeline = "second"
    assert images.pipeline == "second"
    twin = copy.deepcopy(seeded)
    assert type(twin) is SeededDataset
    assert twin.get_data_info(5) == images.get_data_info(5)
    with pytest.raises(AttributeError, match="nothing"):
        _ = seeded.nothing


class Blend(BaseTransform):
    """Mixes an image with another one of the data set, as Mosaic and MixUp do."""

    def get_indexes(self, dataset) -> list[int]:
        return [random.randint(0, len(dataset) - 1)]

    def transform(self, results: dict) -> dict:
        (other,) = results["mix_results"]
        share = np.random.rand()
        image = share * results["img"] + (1 - share) * other["img"]
        return {**results, "img": image.astype(np.uint8)}


class CachedBlend(BaseTransform):
    """Mixes an image with the one before it."""

    def __init__(self) -> None:
        self.results_cache = []

    def transform(self, results: dict) -> dict:
        self.results_cache = [*self.results_cache, results["img"]][-2:]
        image = (results["img"] // 2) + (self.results_cache[0] // 2)
        return {**results, "img": image}


def test_images_mixed_from_the_data_set_are_exact(tmp_path):
    loader = data(noisy=True)
    inner, pack = loader["dataset"], loader["dataset"]["pipeline"].pop()
    loader["dataset"] = dict(
        type=MultiImageMixDataset, dataset=inner, pipeline=[dict(type=Blend), pack]
    )
    settings = dict(noisy=True, data=loader, checkpoint=ITERATIONS)
    run(tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", custom_hooks=[CutOff(5)], **settings)
    run(tmp_path / "parts", resume=True, **settings)
    assert_same_search(tmp_path / "parts" / "iter_6.pth", tmp_path / "whole" / "iter_6.pth")
    assert "from a cache" not in next(tmp_path.glob("parts/*/*.log")).read_text()


def test_a_cache_of_images_is_warned_of(tmp_path):
    loader = tiny.loader()
    loader["dataset"]["pipeline"].insert(0, dict(type=RandomChoice, transforms=[[CachedBlend()]]))
    run(tmp_path, data=loader, epochs=1)
    log = next(tmp_path.glob("*/*.log")).read_text()
    assert log.count("CachedBlend mix in images of earlier steps from a cache") == 1


def test_mmdetections_caches_are_known():
    images = Images()
    images.pipeline = Compose([RandomChoice([[CachedMosaic()], [CachedMixUp()]]), Mosaic()])
    assert caching_transforms(SeededDataset(images)) == ["CachedMixUp", "CachedMosaic"]
    images.pipeline = Compose([Mosaic()])
    assert caching_transforms(images) == []
