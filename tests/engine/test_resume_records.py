"""What a search was begun with: recorded, compared on resuming, taken over where it was not given."""

import pytest
import torch
from mmengine.hooks import Hook

from rarts_mm.registry import SPACES
from rarts_mm.search import AUXILIARY, PRIMARY
from rarts_mm.widths import WidthSpace
from tests import tiny
from tests.engine.resuming import assert_same_search, data, load, run


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """One epoch of a search with the default settings."""
    folder = tmp_path_factory.mktemp("begun")
    run(folder, epochs=1)
    return folder


def resume(begun, tmp_path, **settings):
    checkpoint = str(begun / "epoch_1.pth")
    return run(tmp_path, load_from=checkpoint, resume=True, **settings)


def test_the_record_in_a_checkpoint(begun):
    record = load(begun / "epoch_1.pth")["rarts_mm"]
    assert {k: v for k, v in record.items() if k != "split"} == dict(
        seed=5,
        world_size=1,
        batch_size=4,
        accumulative_counts=1,
        alternation="RARTS",
        space="WidthSpace",
        lam=1.0,
        beta=0.1,
        coupling="gradient",
        penalty=["L1Penalty(gamma=0.001)"],
        alpha_interval=1,
        alpha_warmup=0,
        amp=None,
        length=3,
        validated=0,
    )
    assert record["split"]["lengths"] == {PRIMARY: 10, AUXILIARY: 10}


@pytest.mark.parametrize(
    ("settings", "difference", "start"),
    [
        (dict(loop=dict(split=dict(ratio=0.6))), "ratio was 0.5, is 0.6", 3),
        (dict(loop=dict(split=dict(seed=4))), "seed was 3, is 4", 3),
        (dict(randomness=dict(seed=6)), "seed was 5, is 6", 3),
        # 5 steps an epoch instead of 3.
        (dict(data=data(batch_size=2)), "batch_size was 4, is 2", 5),
        (dict(alternation="RARTSJacobi"), "alternation was RARTS, is RARTSJacobi", 3),
        (
            dict(data=data(batch_size=2), wrapper=dict(accumulative_counts=2)),
            "accumulative_counts was 1, is 2",
            3,
        ),
    ],
    ids=["ratio", "split", "seed", "batch", "alternation", "micro-batches"],
)
def test_resuming_with_other_settings(begun, tmp_path, settings, difference, start):
    with pytest.raises(ValueError, match=difference) as error:
        resume(begun, tmp_path, **settings)
    message = str(error.value)
    assert message.endswith("or go on regardless with --cfg-options train_cfg.strict_resume=False")
    assert message.count("Resume with") == 1
    loop = settings.pop("loop", {})
    runner = resume(begun, tmp_path / "on", loop=dict(loop, strict_resume=False), **settings)
    log = next((tmp_path / "on").glob("*/*.log")).read_text()
    assert f"{difference}" in log
    assert "(train_cfg.strict_resume=False)" in log
    assert ("An epoch had 3 steps and has 5 now: going on at the start of epoch 2" in log) == (
        start == 5
    )
    assert runner.iter == runner.max_iters == start * 2
    # The next resumption is compared with this run, whose seed MMEngine does not keep.
    assert load(tmp_path / "on" / "epoch_2.pth")["rarts_mm"]["seed"] == runner.train_loop.seed
    assert runner.train_loop.seed == (6 if "randomness" in settings else 5)


OTHER = {
    "lam": (2, "lam was 1.0, is 2"),
    "beta": (0.3, "beta was 0.1, is 0.3"),
    "coupling": ("decoupled", "coupling was gradient, is decoupled"),
    "penalty": (
        [dict(type="ProximalL1", gamma=0.001), dict(type="L1Penalty", gamma=0.001000001)],
        "penalty was ['L1Penalty(gamma=0.001)'], is "
        "['ProximalL1(gamma=0.001)', 'L1Penalty(gamma=0.001000001)']",
    ),
    "alpha_interval": (2, "alpha_interval was 1, is 2"),
    "alpha_warmup": (1, "alpha_warmup was 0, is 1"),
    "amp": (dict(dtype="bfloat16"), "amp was None, is bfloat16"),
}
CHANGED = "goes on with other settings than the checkpoint's"


def test_resuming_with_other_weights_of_the_lagrangian_is_warned_of(begun, tmp_path):
    """And goes on: beta is changed on purpose."""
    resume(begun, tmp_path / "all", wrapper={name: value for name, (value, _) in OTHER.items()})
    (line,) = [x for x in tiny.log_text(tmp_path / "all").splitlines() if CHANGED in x]
    assert "WARNING" in line
    for _, difference in OTHER.values():
        assert f"optim_wrapper.{difference}" in line
    assert load(tmp_path / "all" / "epoch_2.pth")["rarts_mm"]["lam"] == 2
    resume(begun, tmp_path / "one", wrapper=dict(beta=0.3))
    assert f"{CHANGED}: optim_wrapper.beta was 0.1, is 0.3. " in tiny.log_text(tmp_path / "one")
    resume(begun, tmp_path / "same")
    assert CHANGED not in tiny.log_text(tmp_path / "same")
    # Checkpoints of earlier versions say nothing of them.
    content = load(begun / "epoch_1.pth")
    for name in OTHER:
        del content["rarts_mm"][name]
    torch.save(content, tmp_path / "old.pth")
    old = str(tmp_path / "old.pth")
    run(tmp_path / "old", load_from=old, resume=True, wrapper=dict(beta=0.3))
    assert CHANGED not in tiny.log_text(tmp_path / "old")


def test_what_an_alternation_does_not_read_is_not_recorded(tmp_path):
    run(tmp_path, alternation="DARTS1", epochs=1)
    record = load(tmp_path / "epoch_1.pth")["rarts_mm"]
    assert record.keys() & OTHER.keys() == {"penalty", "alpha_interval", "alpha_warmup", "amp"}
    assert record["alternation"] == "DARTS1"


def test_resuming_with_another_world_size(begun, tmp_path, monkeypatch):
    checkpoint = load(begun / "epoch_1.pth")
    runner = run(tmp_path, epochs=1)
    (hook,) = (h for h in runner.hooks if type(h).__name__ == "SearchRecordHook")
    runner._resume = True
    hook.after_load_checkpoint(runner, checkpoint)
    checkpoint["rarts_mm"]["world_size"] = 8
    with pytest.raises(ValueError, match="world_size was 8, is 1"):
        hook.after_load_checkpoint(runner, checkpoint)


@pytest.mark.parametrize("strict", [True, False])
def test_optimisers_of_other_networks_do_not_fit(begun, tmp_path, strict):
    """Not even regardless."""
    loop = dict(strict_resume=strict)
    with pytest.raises(ValueError, match=r"moves alpha, auxiliary, primary, .*load_from=") as error:
        resume(begun, tmp_path, alternation="DARTS1", loop=loop)
    assert "strict_resume" not in str(error.value)


class AnotherSpace(WidthSpace):
    """Whose scores have the same names and sizes, as those of the literal placement can have."""


def test_scores_of_another_space_are_refused(begun, tmp_path):
    """Resumed from, or loaded as a start."""
    SPACES.register_module(module=AnotherSpace, force=True)
    try:
        kinds = dict(type="rarts_mm.SearchModel", space=dict(type="AnotherSpace"))
        model = dict(kinds, architecture=tiny.architecture(), networks=2)
        with pytest.raises(ValueError, match="space was WidthSpace, is AnotherSpace"):
            resume(begun, tmp_path, model=model)
        checkpoint = str(begun / "epoch_1.pth")
        with pytest.raises(ValueError, match=r"in a WidthSpace, this one is in a AnotherSpace"):
            run(tmp_path / "loaded", load_from=checkpoint, model=model)
    finally:
        SPACES.module_dict.pop("AnotherSpace")
    # The same space, or a checkpoint that says nothing of it, will do.
    run(tmp_path / "same", load_from=checkpoint, epochs=1)
    content = load(begun / "epoch_1.pth")
    del content["rarts_mm"]["space"]
    torch.save(content, tmp_path / "old.pth")
    run(tmp_path / "old", load_from=str(tmp_path / "old.pth"), epochs=1)


class CutOff(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if runner.iter == 4:
            raise KeyboardInterrupt


def test_a_seed_that_the_config_leaves_open_is_that_of_the_checkpoint(tmp_path):
    """The first run draws one; the rest follow it, with halves shuffled by it from the start."""
    settings = dict(noisy=True, randomness=dict(seed=None, deterministic=True))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", custom_hooks=[CutOff()], **settings)
    resumed = run(tmp_path / "parts", resume=True, **settings)
    seed = load(tmp_path / "parts" / "epoch_1.pth")["rarts_mm"]["seed"]
    assert resumed.seed == resumed.train_loop.seed == seed
    run(tmp_path / "whole", noisy=True, randomness=dict(seed=seed, deterministic=True))
    assert_same_search(tmp_path / "parts" / "epoch_2.pth", tmp_path / "whole" / "epoch_2.pth")


def test_nothing_to_resume_is_a_start(tmp_path):
    run(tmp_path / "resumed", resume=True)
    run(tmp_path / "started")
    assert_same_search(tmp_path / "resumed" / "epoch_2.pth", tmp_path / "started" / "epoch_2.pth")


@pytest.mark.parametrize("counts", [0, 1.5, True, "2"])
def test_accumulative_counts_must_be_a_count(tmp_path, counts):
    with pytest.raises(ValueError, match=rf"accumulative_counts={counts!r} must be a whole number"):
        run(tmp_path, wrapper=dict(accumulative_counts=counts))


@pytest.mark.parametrize("place", ["wrapper", "weights"])
def test_micro_batches_make_the_batches_larger(tmp_path, place):
    weights = tiny.weights_config(**(dict(accumulative_counts=2) if place == "weights" else {}))
    wrapper = dict(weights=weights) | (dict(accumulative_counts=2) if place == "wrapper" else {})
    sizes = []

    class Sizes(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
            sizes.append([len(data_batch[half]["inputs"]) for half in (AUXILIARY, PRIMARY)])

    runner = run(tmp_path, data=data(20, 3), wrapper=wrapper, custom_hooks=[Sizes()], epochs=1)
    assert sizes == [[6, 6], [4, 4]]
    assert runner.max_iters == 2
    assert runner.optim_wrapper.accumulative_counts == 2
    with pytest.raises(ValueError, match="too small for a batch: it has 10 samples, a batch is 12"):
        run(tmp_path / "small", data=data(20, 6), wrapper=wrapper)
