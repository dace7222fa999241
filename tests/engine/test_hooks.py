"""What the hooks log, record and refuse."""

import math
import re

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import MODELS as ROOT_MODELS
from mmpretrain.models.heads import LinearClsHead

from rarts_mm.datasets import split_halves
from rarts_mm.engine import LagrangianHook, ScoreHook
from rarts_mm.engine.hooks import NonFiniteLossError
from rarts_mm.search import ALPHA, AUXILIARY, PRIMARY
from tests import tiny
from tests.tiny import log_text, scalars

BETA, GAMMA, LAM = 0.3, 0.02, 0.6


def optim_wrapper(**kwargs) -> dict:
    return dict(
        type="rarts_mm.RARTSOptimWrapper",
        constructor="rarts_mm.RARTSOptimWrapperConstructor",
        weights=tiny.weights_config(),
        lam=LAM,
        beta=BETA,
        penalty=dict(type="L1Penalty", gamma=GAMMA),
        **kwargs,
    )


class AfterEpoch(Hook):
    """Calls a function when an epoch (counted from 1) has ended, before anything is saved."""

    priority = "HIGHEST"

    def __init__(self, epoch: int, function) -> None:
        self.epoch, self.function = epoch, function

    def after_train_epoch(self, runner) -> None:
        if runner.epoch + 1 == self.epoch:
            self.function(runner)


# --- a loss or a weight that is no number --------------------------------------------------------


@ROOT_MODELS.register_module()
class BreakingHead(LinearClsHead):
    """Its loss becomes ``value`` at a given forward pass."""

    def __init__(self, at: int, value: float, **kwargs) -> None:
        super().__init__(**kwargs)
        self.at, self.value, self.passes = at, value, 0

    def loss(self, *args, **kwargs):
        losses = super().loss(*args, **kwargs)
        self.passes += 1
        if self.passes >= self.at:
            losses["loss"] = losses["loss"] * self.value
        return losses


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_the_run(tmp_path, value):
    # Two passes of each network a step, three steps an epoch: alpha's pass in step 2 of epoch 2.
    head = dict(type=BreakingHead, at=10, value=value)
    runner = tiny.runner(
        tmp_path,
        epochs=3,
        model=dict(type="rarts_mm.SearchModel", architecture=tiny.architecture(head=head)),
    )
    with pytest.raises(NonFiniteLossError) as error:
        runner.train()
    message = str(error.value)
    assert re.search(rf"loss_auxiliary={value}", message)
    assert "at epoch 2, iteration 5" in message
    assert f"the last good checkpoint is {tmp_path / 'epoch_1.pth'}" in message
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == ["epoch_1.pth"]
    state = torch.load(tmp_path / "epoch_1.pth", weights_only=False)["state_dict"]
    assert all(value.isfinite().all() for value in state.values())


def test_no_checkpoint_is_no_good_checkpoint(tmp_path):
    head = dict(type=BreakingHead, at=1, value=math.nan)
    runner = tiny.runner(
        tmp_path,
        model=dict(type="rarts_mm.SearchModel", architecture=tiny.architecture(head=head)),
    )
    with pytest.raises(NonFiniteLossError, match="iteration 1; no checkpoint was saved before"):
        runner.train()


@pytest.mark.parametrize("part", ["auxiliary", "primary", "alpha"])
def test_weights_that_are_no_numbers_are_not_saved(tmp_path, part):
    """The last step of an epoch may break what no loss has seen yet."""

    def break_it(runner) -> None:
        with torch.no_grad():
            list(getattr(runner.model, part).parameters())[-1].view(-1)[1] = math.nan

    runner = tiny.runner(
        tmp_path,
        epochs=3,
        custom_hooks=[AfterEpoch(2, break_it)],
        default_hooks=dict(checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=1)),
    )
    message = rf"1 weights with NaN.*{part}.* at epoch 2, iteration 6.*epoch_1\.pth"
    with pytest.raises(NonFiniteLossError, match=message):
        runner.train()
    assert [path.name for path in tmp_path.glob("*.pth")] == ["epoch_1.pth"]


class AfterStep(Hook):
    """Breaks a weight when a step (counted from 1) has been made, before other hooks see it."""

    priority = "HIGHEST"

    def __init__(self, step: int) -> None:
        self.step = step

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if runner.iter + 1 == self.step:
            with torch.no_grad():
                next(runner.model.primary.parameters()).view(-1)[0] = math.nan


@pytest.mark.parametrize(
    ("step", "interval", "begin", "epoch", "kept"),
    [(3, 1, 0, 1, [1, 2]), (4, 1, 2, 2, [2, 3]), (9, 2, 0, 3, [6, 8])],
    ids=["every", "late", "last"],
)
def test_no_file_is_deleted_for_one_that_is_refused(tmp_path, step, interval, begin, epoch, kept):
    """Saving by iterations, two files kept: the last step, of which no loss has been seen."""
    checkpoint = dict(type="CheckpointHook", by_epoch=False, interval=interval, save_begin=begin)
    runner = tiny.runner(
        tmp_path,
        epochs=3,
        custom_hooks=[AfterStep(step)],
        default_hooks=dict(checkpoint=dict(checkpoint, max_keep_ckpts=2)),
    )
    message = rf"primary.* at epoch {epoch}, iteration {step}; .*iter_{kept[-1]}\.pth"
    with pytest.raises(NonFiniteLossError, match=message):
        runner.train()
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == [f"iter_{i}.pth" for i in kept]


# --- the halves ----------------------------------------------------------------------------------


def test_the_split_is_recorded_and_insisted_on_when_resuming(tmp_path):
    tiny.runner(tmp_path).train()
    checkpoint = torch.load(tmp_path / "epoch_1.pth", weights_only=False)
    record = checkpoint["rarts_mm"]["split"]
    assert record == split_halves(tiny.loader()["dataset"], seed=3)[2]
    assert record["lengths"] == dict(primary=10, auxiliary=10)

    other = dict(type="rarts_mm.SearchLoop", max_epochs=2, split=dict(seed=4))
    before = (tmp_path / "epoch_1.pth").read_bytes()
    with pytest.raises(ValueError, match=r"other halves.*seed was 3, is 4"):
        tiny.runner(tmp_path, train_cfg=other, resume=True).train()
    assert (tmp_path / "epoch_1.pth").read_bytes() == before
    # A new search that starts from this one's weights may split as it likes.
    start = str(tmp_path / "epoch_1.pth")
    tiny.runner(tmp_path / "new", train_cfg=other, load_from=start).train()
    assert (tmp_path / "new" / "epoch_2.pth").is_file()


# --- memory --------------------------------------------------------------------------------------


def test_the_memory_is_told_before_the_first_step(tmp_path):
    runner = tiny.runner(tmp_path)
    runner.train()
    text = log_text(tmp_path)
    assert text.count("memory of the search:") == 1
    assert text.index("memory of the search:") < text.index("Epoch(train)")
    (line,) = [line for line in text.splitlines() if "memory of the search:" in line]
    w, u, a = (
        sum(p.numel() for p in part.parameters()) * 4
        for part in (runner.model.auxiliary, runner.model.primary, runner.model.alpha)
    )
    # AdamW: weights, two moments, a step count per tensor; gradients of one network at a time.
    steps = 4 * len(list(runner.model.parameters()))
    assert f"search: {(3 * (w + u + a) + steps + w) / 2**20:.2f} MiB" in line
    assert f"auxiliary {w / 2**20:.2f} MiB" in line


# --- the Lagrangian ------------------------------------------------------------------------------


class Direct(Hook):
    """Computes the Lagrangian's terms from the model, at every step."""

    priority = "HIGHEST"

    def __init__(self) -> None:
        self.terms: list[dict[str, float]] = []
        self.penalty = 0.0

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        scores = [a.detach().double() for a in runner.model.alpha.parameters()]
        self.penalty = GAMMA * sum(a.abs().sum().item() for a in scores)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        u = dict(runner.model.primary.named_parameters())
        squares = sum(
            (u[name].detach().double() - p.detach().double()).square().sum().item()
            for name, p in runner.model.auxiliary.named_parameters()
        )
        loss = outputs["loss_primary"].item() + LAM * outputs["loss_auxiliary"].item()
        self.terms.append(
            dict(
                distance_uw=math.sqrt(squares),
                coupling=BETA / 2 * squares,
                penalty=self.penalty,
                loss=loss,
                lagrangian=loss + BETA / 2 * squares + self.penalty,
            )
        )


def test_the_lagrangians_terms_are_those_of_the_formula(tmp_path):
    direct = Direct()
    runner = tiny.runner(
        tmp_path,
        epochs=2,
        optim_wrapper=optim_wrapper(),
        custom_hooks=[direct, LagrangianHook(interval=2)],
    )
    runner.train()
    assert len(direct.terms) == 6
    # Every second iteration of an epoch, and its last one: iterations 2, 3, 5 and 6.
    logged = {
        key: [value for value, _ in _history(runner, key)]
        for key in ("distance_uw", "coupling", "lagrangian")
    }
    for key, values in logged.items():
        wanted = [direct.terms[i][key] for i in (1, 2, 4, 5)]
        assert values == pytest.approx(wanted, rel=1e-4), key
        assert min(wanted) > 0
    for key in ("loss", "penalty"):
        values = [value for value, _ in _history(runner, key)]
        assert values == pytest.approx([term[key] for term in direct.terms], rel=1e-5), key


def _history(runner, key: str) -> list[tuple[float, int]]:
    values, counts = runner.message_hub.get_scalar(f"train/{key}").data
    return list(zip(values.tolist(), counts.tolist(), strict=True))


def test_frozen_weights_do_not_count_in_the_distance(tmp_path):
    """u and w that cannot move are not part of the Lagrangian's coupling."""

    class Apart(Hook):
        priority = "LOWEST"

        def before_train(self, runner) -> None:
            with torch.no_grad():
                runner.model.primary.backbone.patch_embed.projection.bias.add_(1000)

    architecture = tiny.architecture(backbone=dict(frozen_stages=0))
    runner = tiny.runner(
        tmp_path,
        model=dict(type="rarts_mm.SearchModel", architecture=architecture),
        custom_hooks=[Apart(), LagrangianHook(interval=1)],
    )
    runner.train()
    assert all(0 < value < 10 for value, _ in _history(runner, "distance_uw"))


def test_joint_training_has_no_coupling_to_log(tmp_path):
    runner = tiny.runner(
        tmp_path,
        model=dict(type="rarts_mm.SearchModel", architecture=tiny.architecture(), networks=1),
        optim_wrapper=optim_wrapper(alternation=dict(type="Joint")),
        custom_hooks=[LagrangianHook(interval=1), ScoreHook()],
    )
    runner.train()
    line = scalars(tmp_path)[0]
    assert line["loss"] == pytest.approx(
        line["loss_primary"] + LAM * line["loss_auxiliary"], rel=1e-5
    )
    assert "coupling" not in line
    assert (tmp_path / "epoch_1.pth").is_file()


def test_a_step_that_the_loss_scaler_skipped_is_logged_without_the_missing_terms(tmp_path):
    # The first steps overflow; the run goes on while the scale comes down.
    amp = dict(dtype="float16", loss_scale=dict(init_scale=2.0**40))
    runner = tiny.runner(
        tmp_path,
        epochs=2,
        optim_wrapper=optim_wrapper(amp=amp),
        custom_hooks=[LagrangianHook(interval=1)],
    )
    runner.train()
    assert runner.optim_wrapper.scaler.get_scale() == 2.0**34
    assert len(_history(runner, "loss_auxiliary")) == 6
    # The scaler's state is in the checkpoint.
    saved = torch.load(tmp_path / "epoch_2.pth", weights_only=False)["optimizer"]
    assert saved["scaler"]["scale"] == 2.0**34
    assert saved.keys() == {AUXILIARY, PRIMARY, ALPHA, "scaler"}


# --- the scores ----------------------------------------------------------------------------------


def test_quantiles_of_the_scores(tmp_path):
    quantiles = (0.0, 0.1, 0.5, 0.77, 1.0)
    generator = torch.Generator().manual_seed(2)
    known = {}

    def set_scores(runner) -> None:
        with torch.no_grad():
            for name, alpha in runner.model.alpha_parameters().items():
                alpha.copy_(torch.randn(alpha.shape, generator=generator))
                alpha[:3] = 0
                known[name] = alpha.detach().abs().numpy().copy()

    runner = tiny.runner(
        tmp_path,
        epochs=3,
        custom_hooks=[
            AfterEpoch(1, set_scores),
            AfterEpoch(2, set_scores),
            ScoreHook(interval=2, quantiles=quantiles),
        ],
    )
    runner.train()
    everything = np.concatenate([a.ravel() for a in known.values()])
    assert everything.size == 112
    (line,) = [line for line in scalars(tmp_path) if "score/q50" in line and "loss" not in line]
    for q in quantiles:
        wanted = np.quantile(everything, q, method="nearest")
        assert line[f"score/q{round(100 * q):02d}"] == pytest.approx(wanted, rel=1e-6), q
    assert line["score/exact_zeros"] == pytest.approx(12 / 112)
    assert line["step"] == 6
    assert runner.message_hub.get_scalar("train/score/q50").current() == line["score/q50"]
    pictures = list(tmp_path.glob("*/vis_data/vis_image/scores_*.png"))
    assert len(pictures) == 1, "every second epoch"
    assert pictures[0].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ScoreHook(interval=0), "interval must be at least 1, got 0"),
        (lambda: ScoreHook(quantiles=(0.5, 1.5)), r"quantiles must lie in \[0, 1\].*1\.5"),
        (lambda: LagrangianHook(interval=-1), "interval must be at least 1, got -1"),
    ],
)
def test_bad_settings(build, message):
    with pytest.raises(ValueError, match=message):
        build()
