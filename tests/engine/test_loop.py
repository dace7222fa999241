"""The search's loop: two halves, how their batches meet, and what a resumed run sees of them."""

import math
from collections import Counter

import numpy as np
import pytest
from mmcv.transforms import BaseTransform
from mmdet.engine.hooks import PipelineSwitchHook
from mmengine.hooks import Hook
from torch.utils.data import BatchSampler

from rarts_mm.engine import MemoryHook, NonFiniteLossHook, SearchRecordHook
from rarts_mm.search import AUXILIARY, PRIMARY
from tests import tiny

NUMBERED = [dict(type="mmpretrain.PackInputs", meta_keys=("number",))]


class Draw(BaseTransform):
    """A random augmentation, of which only the draw is kept."""

    def transform(self, results: dict) -> dict:
        return {**results, "draw": float(np.random.rand())}


class Groups(BatchSampler):
    """A batch sampler as a data loader's config has it, such as the grouping by aspect ratio."""

    def __init__(self, sampler, batch_size: int) -> None:
        super().__init__(sampler, batch_size, drop_last=False)


class Recorder(Hook):
    """Notes the numbers of the images of every step and the learning rates."""

    def __init__(self) -> None:
        self.steps: list[dict[str, list[int]]] = []
        self.rates: list[dict[str, float]] = []
        self.samples: list[dict] = []

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        del batch_idx
        self.samples.append(data_batch)
        self.steps.append(
            {half: [s.get("number") for s in b["data_samples"]] for half, b in data_batch.items()}
        )
        rates = runner.optim_wrapper.get_lr().items()
        self.rates.append({name.removesuffix(".lr"): lr for name, (lr, *_) in rates})

    def epochs(self, half: str, length: int) -> list[list[list[int]]]:
        """The batches of a half, epoch by epoch."""
        every = [step[half] for step in self.steps]
        return [every[i : i + length] for i in range(0, len(every), length)]


def data(number: int = 20, batch_size: int = 2, **kwargs) -> dict:
    cfg = tiny.loader(number, batch_size, **kwargs)
    cfg["dataset"]["pipeline"] = NUMBERED
    return cfg


def loop_cfg(epochs: int = 1, **split) -> dict:
    return dict(type="rarts_mm.SearchLoop", max_epochs=epochs, split=dict(seed=3) | split)


def recorded(work_dir, epochs: int = 1, cfg: dict | None = None, split=None, hooks=(), **kwargs):
    """Train; return the recorder and the runner."""
    recorder = Recorder()
    runner = tiny.runner(
        work_dir,
        data=cfg or data(),
        train_cfg=loop_cfg(epochs, **(split or {})),
        custom_hooks=[recorder, *hooks],
        **kwargs,
    )
    runner.train()
    return recorder, runner


def flat(batches: list[list[int]]) -> list[int]:
    return [number for batch in batches for number in batch]


@pytest.mark.parametrize(("ratio", "longer"), [(0.3, AUXILIARY), (0.7, PRIMARY)])
def test_halves_of_different_lengths(tmp_path, ratio, longer):
    """14 and 6 images in batches of 2: 7 steps an epoch; the shorter half starts again twice."""
    shorter = PRIMARY if longer == AUXILIARY else AUXILIARY
    recorder, runner = recorded(tmp_path, epochs=3, split=dict(ratio=ratio))
    assert len(runner.train_dataloader) == 7
    assert runner.max_iters == runner.iter == len(recorder.steps) == 21
    assert all(step.keys() == {AUXILIARY, PRIMARY} for step in recorder.steps)
    assert all(len(batch) == 2 for step in recorder.steps for batch in step.values())

    orders = []
    for epoch in recorder.epochs(longer, 7):
        orders.append(flat(epoch))
    members = set(orders[0])
    assert len(members) == 14
    for order in orders:
        assert Counter(order) == Counter(members), "one pass over the longer half"
    assert orders[0] != orders[1] != orders[2] != orders[0]

    passes = []
    for epoch in recorder.epochs(shorter, 7):
        passes += [flat(epoch[:3]), flat(epoch[3:6])]
        rest = set(range(20)) - members
        assert len(set(epoch[6])) == 2
        assert set(epoch[6]) <= rest
    for one in passes:
        assert Counter(one) == Counter(rest), "whole passes over the shorter half"
    assert len({tuple(one) for one in passes}) == len(passes), "another shuffle for each"


def test_equal_halves_are_both_shuffled_in_every_epoch(tmp_path):
    recorder, runner = recorded(tmp_path, epochs=3)
    assert runner.max_iters == 15
    for half in (AUXILIARY, PRIMARY):
        orders = [flat(epoch) for epoch in recorder.epochs(half, 5)]
        assert len(set(orders[0])) == 10
        assert set(orders[0]) == set(orders[1]) == set(orders[2])
        assert orders[0] != orders[1] != orders[2] != orders[0]
    a, p = ({n for step in recorder.steps for n in step[half]} for half in (AUXILIARY, PRIMARY))
    assert not a & p
    assert a | p == set(range(20))


def test_the_order_is_not_the_same_walk_through_both_halves(tmp_path):
    """With one seed for both, image k of one half would meet image k of the other in every epoch."""
    recorder, _ = recorded(tmp_path, epochs=4)
    a, p = ([flat(epoch) for epoch in recorder.epochs(half, 5)] for half in (AUXILIARY, PRIMARY))
    ranks = [
        [sorted(order).index(number) for number in order] for orders in (a, p) for order in orders
    ]
    assert all(ranks[i] != ranks[i + 4] for i in range(4))


@pytest.mark.parametrize("ratio", [0.5, 0.3])
def test_a_resumed_run_sees_the_batches_of_an_uninterrupted_one(tmp_path, ratio):
    whole, _ = recorded(tmp_path / "whole", epochs=3, split=dict(ratio=ratio))
    recorded(tmp_path / "parts", epochs=1, split=dict(ratio=ratio))
    rest, runner = recorded(tmp_path / "parts", epochs=3, split=dict(ratio=ratio), resume=True)
    per_epoch = len(runner.train_dataloader)
    assert len(rest.steps) == 2 * per_epoch
    assert rest.steps == whole.steps[per_epoch:]


def test_runs_with_one_seed_are_the_same_and_with_another_differ(tmp_path):
    first, _ = recorded(tmp_path / "1")
    again, _ = recorded(tmp_path / "2")
    other, _ = recorded(tmp_path / "3", randomness=dict(seed=6))
    assert first.steps == again.steps
    assert first.steps != other.steps
    # The halves depend on the split's seed alone.
    for half in (AUXILIARY, PRIMARY):
        members = [{n for step in r.steps for n in step[half]} for r in (first, other)]
        assert members[0] == members[1]


def test_a_batch_sampler_is_reshuffled_too(tmp_path):
    recorder, runner = recorded(
        tmp_path, epochs=2, cfg=data(batch_sampler=dict(type=Groups)), split=dict(ratio=0.4)
    )
    assert type(runner.train_dataloader.batch_sampler.batch_sampler) is Groups
    assert runner.max_iters == 12
    for half, length in ((AUXILIARY, 6), (PRIMARY, 4)):
        orders = [flat(epoch[:length]) for epoch in recorder.epochs(half, 6)]
        assert set(orders[0]) == set(orders[1])
        assert orders[0] != orders[1]


@pytest.mark.filterwarnings("error:Detected call of `scheduler.step:UserWarning")
def test_schedules_follow_the_true_length(tmp_path):
    schedule = dict(type="CosineAnnealingLR", eta_min=0.002, by_epoch=True, begin=0, end=2) | dict(
        convert_to_iter_based=True
    )
    weights = tiny.weights_config()
    optim_wrapper = dict(
        type="rarts_mm.RARTSOptimWrapper",
        constructor="rarts_mm.RARTSOptimWrapperConstructor",
        weights=weights,
        alpha=dict(optimizer=dict(type="SGD", lr=0.5)),
    )
    recorder, _ = recorded(
        tmp_path,
        epochs=2,
        split=dict(ratio=0.3),
        param_scheduler=[schedule],
        optim_wrapper=optim_wrapper,
    )
    for i, rates in enumerate(recorder.rates):
        for name, start in ((AUXILIARY, 0.01), (PRIMARY, 0.01), ("alpha", 0.5)):
            wanted = 0.002 + (start - 0.002) * (1 + math.cos(math.pi * i / 14)) / 2
            assert rates[name] == pytest.approx(wanted, rel=1e-9)


class StopEarly(Hook):
    """As EarlyStoppingHook does it."""

    def after_train_epoch(self, runner) -> None:
        runner.train_loop.stop_training = runner.epoch == 1


def test_stop_training_is_honoured(tmp_path):
    recorder, runner = recorded(tmp_path, epochs=5, hooks=[StopEarly()])
    assert runner.epoch == 2
    assert len(recorder.steps) == 10


def test_workers_of_the_two_halves_draw_different_augmentations(tmp_path):
    cfg = data(num_workers=1)
    pack = dict(type="mmpretrain.PackInputs", meta_keys=("number", "draw"))
    cfg["dataset"]["pipeline"] = [dict(type=Draw), pack]
    recorder, _ = recorded(tmp_path, cfg=cfg)
    draws = {
        half: [s.get("draw") for batch in recorder.samples for s in batch[half]["data_samples"]]
        for half in (AUXILIARY, PRIMARY)
    }
    assert len(draws[AUXILIARY]) == 10
    assert not set(draws[AUXILIARY]) & set(draws[PRIMARY])


def test_what_a_search_needs_is_there_whatever_the_config_lists(tmp_path):
    needed = (SearchRecordHook, NonFiniteLossHook, MemoryHook)
    for hooks in ([], [dict(type="rarts_mm.NonFiniteLossHook"), dict(type="rarts_mm.MemoryHook")]):
        runner = tiny.runner(tmp_path, custom_hooks=hooks)
        runner.train()
        for kind in needed:
            assert sum(type(hook) is kind for hook in runner.hooks) == 1


@pytest.mark.parametrize(
    ("cfg", "split", "message"),
    [
        (data(20, batch_size=12), {}, "primary half is too small for a batch: it has 10 samples"),
        (data(20), dict(ratio=0.0), r"split\.ratio=0"),
        (data(20), dict(seed=-1), r"split\.seed=-1"),
        (data(1), {}, "half of the data set would be empty"),
    ],
)
def test_data_that_cannot_be_searched_on(tmp_path, cfg, split, message):
    with pytest.raises(ValueError, match=message):
        recorded(tmp_path, cfg=cfg, split=split)


def test_a_built_data_loader_is_refused(tmp_path):
    runner = tiny.runner(tmp_path)
    loader = runner.build_dataloader(tiny.loader())
    with pytest.raises(TypeError, match="train_dataloader as a config, got DataLoader"):
        recorded(tmp_path, cfg=loader)


class Marked(BaseTransform):
    """Marks the samples of a later pipeline."""

    def transform(self, results: dict) -> dict:
        return {**results, "number": -results["number"]}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_switched_pipeline_reaches_both_halves(tmp_path, workers):
    cfg = data(number=8, num_workers=workers, persistent_workers=bool(workers))
    # It knows runner.train_dataloader alone.
    switch = PipelineSwitchHook(switch_epoch=1, switch_pipeline=[Marked(), *NUMBERED])
    recorder, _ = recorded(tmp_path, epochs=2, cfg=cfg, hooks=[switch])
    for half in (AUXILIARY, PRIMARY):
        before, after = recorder.epochs(half, 2)
        assert all(number >= 0 for number in flat(before))
        assert all(number <= 0 for number in flat(after))
        assert sorted(-n for n in flat(after)) == sorted(flat(before))
