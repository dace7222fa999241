"""A search that was cut off and resumed ends where an uninterrupted one ends, to the last bit."""

from pathlib import Path

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import METRICS, init_default_scope

from rarts_mm.registry import MODELS
from rarts_mm.search import ALPHA, AUXILIARY, PRIMARY
from tests import tiny
from tests.engine.resuming import (
    ITERATIONS,
    SINGLE,
    CutOff,
    assert_equal,
    assert_same_search,
    data,
    load,
    logged,
    run,
)


def cut_and_resume(tmp_path: Path, at: int, **settings):
    """The same search in one go and in two; returns the resumed one's runner."""
    run(tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", custom_hooks=[CutOff(at)], **settings)
    return run(tmp_path / "parts", resume=True, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        dict(),
        dict(amp=dict(dtype="bfloat16")),
        dict(amp=dict(dtype="float16", loss_scale=dict(init_scale=4.0, growth_interval=2))),
        dict(alternation="Joint"),
    ],
    ids=["fp32", "bfloat16", "float16", "joint"],
)
def test_epoch_wise(tmp_path, settings):
    resumed = cut_and_resume(tmp_path, 5, **settings)
    assert (resumed.epoch, resumed.iter) == (2, 6)
    assert_same_search(tmp_path / "parts" / "epoch_2.pth", tmp_path / "whole" / "epoch_2.pth")
    first, whole = (load(tmp_path / "whole" / f"epoch_{i}.pth") for i in (1, 2))
    moved = [
        k for k, v in whole["state_dict"].items() if not torch.equal(v, first["state_dict"][k])
    ]
    assert any(k.startswith("alpha.") for k in moved)
    players = {AUXILIARY, ALPHA} | ({PRIMARY} if "alternation" not in settings else set())
    assert set(whole["optimizer"]) - {"scaler"} == players
    assert ("scaler" in whole["optimizer"]) == (settings.get("amp", {}).get("dtype") == "float16")


@pytest.mark.parametrize(
    ("at", "first", "settings"),
    [
        (5, 4, dict()),
        (6, 6, dict()),
        # The checkpoint of an epoch's last step.
        (4, 3, dict(checkpoint=dict(by_epoch=False, interval=3))),
        # Halves of 5 and 16 images: passes of 3 and 8 batches, the last of them not full.
        (11, 10, dict(data=data(21, 2, noisy=True), loop=dict(split=dict(ratio=0.25)))),
        (7, 6, dict(alternation="RARTSJacobi")),
        *((5, 4, dict(alternation=name)) for name in SINGLE[1:]),
        (4, 4, dict(wrapper=dict(accumulative_counts=2), data=data(batch_size=2, noisy=True))),
        # Alpha rests in the first step after the checkpoint, and in the very first one.
        (3, 2, dict(wrapper=dict(alpha_interval=2))),
        (3, 2, dict(wrapper=dict(alpha_warmup=2))),
    ],
    ids=[
        *("middle", "end", "last", "odd", "jacobi", *SINGLE[1:], "micro-batches"),
        *("interval", "warm-up"),
    ],
)
def test_iteration_wise_with_random_draws_everywhere(tmp_path, at, first, settings):
    settings = dict(noisy=True, checkpoint=ITERATIONS, epochs=3) | settings
    resumed = cut_and_resume(tmp_path, at, **settings)
    assert sorted(tmp_path.glob(f"parts/iter_{first}.pth"))
    last = f"iter_{resumed.max_iters}.pth"
    assert_same_search(tmp_path / "parts" / last, tmp_path / "whole" / last)


@pytest.mark.slow
@pytest.mark.parametrize(
    "checkpoint",
    [
        pytest.param(dict(), id="epoch", marks=pytest.mark.slow),
        pytest.param(ITERATIONS, id="iteration"),
    ],
)
def test_persistent_workers(tmp_path, checkpoint):
    """Which worker loads a sample, and what it loaded before, is another thing after resuming."""
    loader = data(21, 2, noisy=True, num_workers=2, persistent_workers=True)
    settings = dict(noisy=True, checkpoint=checkpoint, loop=dict(split=dict(ratio=0.3)))
    cut_and_resume(tmp_path, 11, data=loader, **settings)
    last = "iter_16.pth" if checkpoint else "epoch_2.pth"
    assert_same_search(tmp_path / "parts" / last, tmp_path / "whole" / last)
    # Nor does the number of workers matter.
    run(tmp_path / "none", data=data(21, 2, noisy=True), **settings)
    assert_same_search(tmp_path / "none" / last, tmp_path / "whole" / last)


def test_the_draws_of_a_step_are_not_those_of_another(tmp_path):
    """Seeding each step must not make the steps alike: with fixed data the masks still differ."""
    masks = []

    class Masks(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
            masks.append(torch.rand(4).tolist())

    run(tmp_path, custom_hooks=[Masks()])
    assert len({tuple(mask) for mask in masks}) == len(masks) == 6


@METRICS.register_module()
class Drawn(BaseMetric):
    """A metric that draws: an interrupted validation must be made up for with the same draws."""

    default_prefix = "drawn"

    def process(self, data_batch, data_samples) -> None:
        self.results.append(0.0)

    def compute_metrics(self, results: list) -> dict:
        return dict(accuracy=float(torch.rand(1)))


class CutOffInValidation(Hook):
    """After the checkpoint of epoch 1, before its validation has ended."""

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize(
    "checkpoint",
    [dict(save_best="drawn/accuracy"), dict(by_epoch=False, interval=3)],
    ids=["epoch", "iteration"],
)
def test_a_validation_that_was_cut_off_is_made_up_for(tmp_path, checkpoint):
    settings = dict(
        noisy=True,
        checkpoint=checkpoint,
        val_dataloader=tiny.loader(number=4)
        | dict(sampler=dict(type="DefaultSampler", shuffle=False)),
        val_cfg=dict(),
        val_evaluator=dict(type="Drawn"),
        data=data(noisy=True),
    )
    run(tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", custom_hooks=[CutOffInValidation()], **settings)
    run(tmp_path / "parts", resume=True, **settings)
    last = "epoch_2.pth" if "save_best" in checkpoint else "iter_6.pth"
    assert_same_search(tmp_path / "parts" / last, tmp_path / "whole" / last)
    assert "val/drawn/accuracy" in logged(load(tmp_path / "parts" / last))
    best = [sorted(p.name for p in (tmp_path / n).glob("best*")) for n in ("parts", "whole")]
    assert best[0] == best[1]


class AtStart(Hook):
    """Notes the weights as training starts."""

    priority = "LOWEST"
    state: dict

    def before_train(self, runner) -> None:
        self.state = {k: v.clone() for k, v in runner.model.state_dict().items()}


def test_a_plain_checkpoint_is_both_networks_start_and_a_resumed_search_keeps_both(tmp_path):
    init_default_scope("mmpretrain")
    plain = tiny.randomize(MODELS.build(tiny.architecture()), seed=8)
    torch.save(dict(state_dict=plain.state_dict(), meta={}), tmp_path / "plain.pth")
    start = AtStart()
    run(tmp_path / "search", custom_hooks=[start], load_from=str(tmp_path / "plain.pth"))
    for key, value in plain.state_dict().items():
        assert torch.equal(start.state[f"auxiliary.{key}"], value)
        assert torch.equal(start.state[f"primary.{key}"], value)
    assert all((v == 1).all() for k, v in start.state.items() if k.startswith("alpha."))

    saved = load(tmp_path / "search" / "epoch_1.pth")["state_dict"]
    again = AtStart()
    resume = str(tmp_path / "search" / "epoch_1.pth")
    run(tmp_path / "again", custom_hooks=[again], load_from=resume, resume=True)
    assert_equal(again.state, dict(saved))
    assert not torch.equal(saved["auxiliary.head.fc.weight"], saved["primary.head.fc.weight"])


def test_a_search_config_refuses_a_checkpoint_of_something_else(tmp_path):
    foreign = dict(state_dict={"encoder.weight": torch.zeros(2)}, meta={})
    torch.save(foreign, tmp_path / "foreign.pth")
    with pytest.raises(RuntimeError, match="fits neither a search nor its architecture"):
        run(tmp_path / "search", load_from=str(tmp_path / "foreign.pth"))
