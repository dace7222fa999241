"""The halves of a data set: disjoint, complete, the same everywhere, also inside wrappers."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, DefaultScope
from torch.utils.data import Dataset

from rarts_mm.datasets import check_halves, check_same_split, split_halves
from tests.conftest import run_tool


@DATASETS.register_module()
class HalvesNumbers(BaseDataset):
    """Entries 0 ... length - 1; ``paths`` gives the image of each entry, if there are any."""

    def __init__(self, length=20, prefix=None, paths=None, drop=None, **kwargs):
        self.length, self.prefix, self.paths, self.drop = length, prefix, paths, drop
        super().__init__(ann_file="", **kwargs)

    def load_data_list(self):
        entries = [dict(number=i, padding="x" * (i % 7)) for i in range(self.length)]
        for i, entry in enumerate(entries):
            if self.paths is not None:
                entry["img_path"] = self.paths[i]
            elif self.prefix is not None:
                entry["img_path"] = f"{self.prefix}/{i}"
        return entries

    def filter_data(self):
        drop = (self.filter_cfg or {}).get("drop")
        return [e for e in self.data_list if drop is None or e["number"] % drop]

    def get_cat_ids(self, idx):
        return [int(self.get_data_info(idx)["number"] % 5 == 0)]


@DATASETS.register_module()
class HalvesPlain(Dataset):
    """A data set of torch's, without get_subset."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return index


@pytest.fixture(scope="module", autouse=True)
def _forget_registered_types():
    yield
    for name in ("HalvesNumbers", "HalvesPlain"):
        DATASETS.module_dict.pop(name)


def numbers(half):
    return [half[i]["number"] for i in range(len(half))]


def config(**kwargs):
    return dict(type="HalvesNumbers", **kwargs)


@settings(max_examples=20, deadline=None)
@given(
    length=st.integers(3, 40),
    ratio=st.floats(0.3, 0.7),
    seed=st.integers(0, 2**32 - 1),
    serialize=st.booleans(),
    prefix=st.sampled_from([None, "images"]),
)
def test_halves_are_disjoint_complete_and_of_the_asked_size(length, ratio, seed, serialize, prefix):
    cfg = config(length=length, serialize_data=serialize, prefix=prefix)
    primary, auxiliary, record = split_halves(cfg, ratio, seed)
    assert sorted(numbers(primary) + numbers(auxiliary)) == list(range(length))
    assert len(primary) == round(ratio * length)
    assert numbers(primary) == sorted(numbers(primary))
    assert record["lengths"] == dict(primary=len(primary), auxiliary=len(auxiliary))
    assert (record["seed"], record["ratio"]) == (seed, ratio)
    assert json.loads(json.dumps(record)) == record


def test_the_split_depends_on_the_seed_alone():
    first = split_halves(config(length=50), seed=3)
    np.random.seed(0)
    second = split_halves(config(length=50), seed=3)
    assert numbers(first[0]) == numbers(second[0])
    assert first[2] == second[2]
    other = split_halves(config(length=50), seed=4)
    assert numbers(first[0]) != numbers(other[0])
    assert first[2]["sha256"] != other[2]["sha256"]


def test_a_half_is_drawn_at_random():
    """Over many seeds every image is in the primary half about every second time."""
    counts = np.zeros(20)
    for seed in range(400):
        # Not serialised: that would collect garbage 400 times.
        counts[numbers(split_halves(config(serialize_data=False), seed=seed)[0])] += 1
    # Standard deviation sqrt(400 / 4) = 10.
    assert np.abs(counts - 200).max() < 45


def test_each_half_holds_only_its_own_annotations():
    whole = HalvesNumbers(length=40)
    primary, auxiliary, _ = split_halves(config(length=40))
    assert len(primary.data_bytes) + len(auxiliary.data_bytes) == len(whole.data_bytes)
    assert len(primary.data_address) == len(auxiliary.data_address) == 20
    for half in (primary, auxiliary):
        for i in range(len(half)):
            assert half.get_data_info(i) == dict(whole[half[i]["number"]], sample_idx=i)


def test_filter_indices_and_lazy_init_come_first():
    cfg = config(length=40, filter_cfg=dict(drop=3), indices=12, lazy_init=True)
    primary, auxiliary, _ = split_halves(cfg)
    kept = [i for i in range(40) if i % 3][:12]
    assert sorted(numbers(primary) + numbers(auxiliary)) == kept


def test_a_built_data_set_can_be_split():
    primary, auxiliary, _ = split_halves(HalvesNumbers(length=9), ratio=1 / 3)
    assert (len(primary), len(auxiliary)) == (3, 6)


# Wrappers


def disjoint(primary, auxiliary):
    return not set(numbers(primary)) & set(numbers(auxiliary))


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("wrapped_type", [dict, ConfigDict])
def test_repeated_images_stay_in_their_half(lazy, wrapped_type):
    cfg = wrapped_type(type="RepeatDataset", times=3, dataset=config(length=11), lazy_init=lazy)
    primary, auxiliary, record = split_halves(cfg, seed=1)
    assert disjoint(primary, auxiliary)
    assert type(primary).__name__ == "RepeatDataset"
    assert record["lengths"] == dict(primary=len(primary), auxiliary=len(auxiliary))
    assert len(primary) + len(auxiliary) == 33
    assert sorted(numbers(primary) + numbers(auxiliary)) == sorted(3 * list(range(11)))


def test_balanced_classes_are_balanced_within_each_half():
    cfg = dict(type="ClassBalancedDataset", oversample_thr=0.9, dataset=config(length=40))
    primary, auxiliary, _ = split_halves(cfg)
    assert disjoint(primary, auxiliary)
    assert {*numbers(primary), *numbers(auxiliary)} == set(range(40))
    for half in (primary, auxiliary):
        repeated = numbers(half)
        rare = np.mean([n % 5 == 0 for n in set(repeated)])
        for n in set(repeated):
            share = rare if n % 5 == 0 else 1 - rare
            assert repeated.count(n) == np.ceil(max(1, np.sqrt(0.9 / share)))


def test_every_member_of_a_concatenation_is_split():
    members = [config(length=10, prefix="a"), config(length=6, prefix="b")]
    primary, auxiliary, record = split_halves(dict(type="ConcatDataset", datasets=members))
    paths = [[half[i]["img_path"] for i in range(len(half))] for half in (primary, auxiliary)]
    assert not set(paths[0]) & set(paths[1])
    assert len(paths[0]) == len(paths[1]) == 8
    assert [leaf["primary"] for leaf in record["leaves"]] == [5, 3]


def test_wrappers_of_wrappers():
    """RepeatDataset refuses a built ConcatDataset, but not as a config."""
    members = [config(length=10, prefix="a"), config(length=6, prefix="b")]
    inner = dict(type="ConcatDataset", datasets=members)
    cfg = dict(type="RepeatDataset", times=2, dataset=inner)
    primary, auxiliary, _ = split_halves(cfg)
    paths = [[half[i]["img_path"] for i in range(len(half))] for half in (primary, auxiliary)]
    assert not set(paths[0]) & set(paths[1])
    assert len(paths[0]) == len(paths[1]) == 16


def test_an_image_that_two_members_share_is_in_one_half():
    members = [config(length=12, prefix="a"), config(length=9, prefix="a")]
    primary, auxiliary, _ = split_halves(dict(type="ConcatDataset", datasets=members))
    assert disjoint(primary, auxiliary)
    assert len(primary) + len(auxiliary) == 21


def test_an_image_with_several_entries_is_in_one_half():
    paths = [f"image{i // 3}" for i in range(30)]
    primary, auxiliary, _ = split_halves(config(length=30, paths=paths))
    images = [{half[i]["img_path"] for i in range(len(half))} for half in (primary, auxiliary)]
    assert not images[0] & images[1]
    assert len(primary) + len(auxiliary) == 30
    assert abs(len(primary) - 15) < 3


def test_mixed_images_come_from_the_same_half(shapes):
    """MultiImageMixDataset draws its partners out of the data set that it wraps."""
    from mmdet.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    cfg = dict(
        type="MultiImageMixDataset",
        dataset=coco(shapes),
        pipeline=[dict(type="Mosaic", img_scale=(64, 64), prob=1.0)],
    )
    with DefaultScope.overwrite_default_scope("mmdet"):
        primary, auxiliary, _ = split_halves(cfg)
    assert len(primary) == len(auxiliary) == len(primary.dataset) == 12
    assert not set(coco_images(primary)) & set(coco_images(auxiliary))
    assert primary[0]["img"].shape == (128, 128, 3)


def test_a_fold_is_chosen_before_the_split():
    from mmpretrain.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    cfg = dict(type="KFoldDataset", fold=1, num_splits=4, seed=5, dataset=config(length=40))
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        primary, auxiliary, _ = split_halves(cfg)
        fold = DATASETS.build(dict(cfg, test_mode=True))
    held_out = set(numbers(fold))
    assert len(held_out) == 10
    assert len(primary) == len(auxiliary) == 15
    assert {*numbers(primary), *numbers(auxiliary)} == set(range(40)) - held_out


# Data sets of the libraries


def coco(shapes):
    return dict(
        type="CocoDataset",
        data_root=str(shapes),
        ann_file="annotations/train.json",
        data_prefix=dict(img="train/"),
        metainfo=dict(classes=("circle", "rectangle", "triangle")),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=[dict(type="LoadImageFromFile"), dict(type="LoadAnnotations", with_bbox=True)],
    )


def coco_images(half):
    return [half.get_data_info(i)["img_path"] for i in range(len(half))]


def test_coco_with_mmdets_batch_sampler(shapes):
    from mmdet.datasets.samplers import AspectRatioBatchSampler
    from mmdet.utils import register_all_modules
    from mmengine.dataset import DefaultSampler

    register_all_modules(init_default_scope=False)
    with DefaultScope.overwrite_default_scope("mmdet"):
        primary, auxiliary, _ = split_halves(coco(shapes))
    files = sorted(coco_images(primary) + coco_images(auxiliary))
    assert files == sorted(str(path) for path in (shapes / "train").iterdir())
    for half in (primary, auxiliary):
        batches = list(AspectRatioBatchSampler(DefaultSampler(half, shuffle=False), 5))
        assert sorted(index for batch in batches for index in batch) == list(range(12))
        assert half[0]["img"].shape == (64, 64, 3)
        assert half.metainfo["classes"] == ("circle", "rectangle", "triangle")


def test_a_folder_of_classes_of_mmpretrain(tmp_path):
    from mmpretrain.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(5):
            (tmp_path / name / f"{i}.png").write_bytes(b"")
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        primary, auxiliary, _ = split_halves(
            dict(type="CustomDataset", data_root=str(tmp_path), pipeline=[])
        )
    both = [half.get_data_info(i) for half in (primary, auxiliary) for i in range(5)]
    assert len({info["img_path"] for info in both}) == 10
    assert primary.CLASSES == auxiliary.CLASSES == ("cat", "dog")


# Bad input


@pytest.mark.parametrize("ratio", [0, 1, -0.2, 1.5, float("nan"), "half", None, True])
def test_bad_ratio(ratio):
    with pytest.raises(ValueError, match=r"split\.ratio"):
        split_halves(config(), ratio=ratio)


@pytest.mark.parametrize("seed", [-1, 2**32, 0.5, "a", None, True])
def test_bad_seed(seed):
    with pytest.raises(ValueError, match=r"split\.seed"):
        split_halves(config(), seed=seed)


@pytest.mark.parametrize(("ratio", "empty"), [(0.01, "primary"), (0.99, "auxiliary")])
def test_empty_half(ratio, empty):
    with pytest.raises(ValueError, match=rf"{empty} half .* empty: split\.ratio={ratio} of 20"):
        split_halves(config(), ratio=ratio)


def test_data_sets_that_cannot_be_split():
    with pytest.raises(ValueError, match="HalvesPlain cannot be split"):
        split_halves(dict(type="HalvesPlain"))
    with pytest.raises(ValueError, match="HalvesPlain cannot be split"):
        split_halves(dict(type="RepeatDataset", times=2, dataset=dict(type="HalvesPlain")))
    with pytest.raises(ValueError, match="ann_file is a list"):
        split_halves(dict(type="CocoDataset", ann_file=["a.json", "b.json"]))


def test_a_half_must_fill_a_batch():
    record = split_halves(config(length=20), ratio=0.25)[2]
    check_halves(record, dict(primary=5, auxiliary=15))
    with pytest.raises(ValueError, match=r"primary half .* 5 samples, a batch is 6\..* at most 5"):
        check_halves(record, dict(primary=6, auxiliary=6))
    with pytest.raises(ValueError, match=r"auxiliary half .* 15 samples"):
        check_halves(record, dict(primary=5, auxiliary=16))
    with pytest.raises(ValueError, match=r"3 on each of 2 processes.* at most 2"):
        check_halves(record, dict(primary=3, auxiliary=3), world_size=2)


def test_a_half_too_small_for_a_batch_ends_the_command(small_config, tmp_path):
    status, _, err = run_tool(
        "train",
        small_config,
        "--work-dir",
        tmp_path / "run",
        "--cfg-options",
        "train_dataloader.batch_size=16",
    )
    assert status == 2
    assert "half is too small for a batch: it has 12 samples, a batch is 16" in err


def test_a_resumed_run_must_split_alike():
    record = split_halves(config(length=20), seed=1)[2]
    check_same_split(json.loads(json.dumps(record)), record)
    with pytest.raises(ValueError, match="seed was 1, is 2"):
        check_same_split(record, split_halves(config(length=20), seed=2)[2])
    with pytest.raises(ValueError, match=r"data set was 20 images in a \w+, is 21 images"):
        check_same_split(record, split_halves(config(length=21), seed=1)[2])
