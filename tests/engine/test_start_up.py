"""What a search says before its first step, and the statistics that it ends with."""

import itertools

import pytest
import torch
from mmengine.hooks import Hook
from torch import nn

from rarts_mm.search import AUXILIARY, PRIMARY
from tests import tiny
from tests.tiny import log_text, scalars

SGD = dict(optimizer=dict(type="SGD", lr=0.05, momentum=0.9))


def said(tmp_path, weights=None, networks=2, epochs=1, param_scheduler=None, **cfg) -> str:
    """The log of a short search with these settings."""
    wrapper = dict(
        type="rarts_mm.RARTSOptimWrapper",
        constructor="rarts_mm.RARTSOptimWrapperConstructor",
        weights=weights or tiny.weights_config(),
        **cfg,
    )
    model = dict(type="rarts_mm.SearchModel", architecture=tiny.architecture(), networks=networks)
    runner = tiny.runner(
        tmp_path,
        epochs=epochs,
        model=model,
        optim_wrapper=wrapper,
        param_scheduler=param_scheduler,
    )
    runner.train()
    return log_text(tmp_path)


@pytest.mark.parametrize(
    ("alternation", "coupling", "bound"),
    [
        ("RARTS", "gradient", 2 * (1 - 0.9) / 0.05),
        ("RARTSJacobi", "gradient", (1 + 0.9) / 0.05),
        ("RARTS", "decoupled", 2 / 0.05),
        ("RARTSJacobi", "decoupled", 1 / 0.05),
    ],
)
def test_an_unstable_coupling_is_warned_of_with_its_bound(tmp_path, alternation, coupling, bound):
    settings = dict(weights=SGD, coupling=coupling, alternation=dict(type=alternation))
    # A learning rate of 1e-12 keeps the run itself finite.
    schedule = [dict(type="MultiStepLR", milestones=[1, 2], gamma=0.1, by_epoch=False)]
    text = said(tmp_path / "below", beta=0.99 * bound, param_scheduler=schedule, **settings)
    assert "is unstable" not in text
    text = said(tmp_path / "above", beta=1.01 * bound, param_scheduler=schedule, **settings)
    assert "coupling of u and w is unstable" in text
    assert f"stable for beta < {bound:.4g} at this learning rate" in text


def test_the_whole_schedule_is_looked_at(tmp_path):
    """The warm-up starts far below the bound, at step 3 the rate is there."""
    schedule = [dict(type="LinearLR", start_factor=1e-3, by_epoch=False, end=3)]
    settings = dict(weights=SGD, beta=4.2, epochs=2, param_scheduler=schedule)
    assert "coupling of u and w is unstable" in said(tmp_path, **settings)


def test_a_schedule_of_momentum_is_looked_at(tmp_path):
    """It starts at 0.098; at 0.9 a beta of 2 is stable, at 0.98 the bound is 0.8."""
    rising = [dict(type="LinearMomentum", start_factor=0.1, by_epoch=False, end=4)]
    for momentum, unstable in ((0.9, False), (0.98, True)):
        sgd = dict(optimizer=dict(SGD["optimizer"], momentum=momentum))
        folder = tmp_path / str(momentum)
        text = said(folder, weights=sgd, beta=2.0, epochs=2, param_scheduler=rising)
        assert ("and momentum 0.98 makes their distance grow" in text) == unstable
        assert ("stable for beta < 0.8 at" in text) == unstable


def test_a_schedule_that_waits_for_validations_starts(tmp_path):
    schedule = [dict(type="ReduceOnPlateauLR", monitor="accuracy/top1", rule="greater")]
    assert "Epoch(train)" in said(tmp_path, param_scheduler=schedule)


def test_a_search_in_which_alpha_always_rests_is_warned_of(tmp_path):
    assert "Alpha rests in all 3 steps" in said(tmp_path / "always", alpha_warmup=9)
    assert "Alpha rests" not in said(tmp_path / "once", alpha_interval=3)


def test_adaptive_optimisers_have_no_bound(tmp_path):
    assert "is unstable" not in said(tmp_path, beta=1e4)


def test_a_penalty_that_cannot_reach_zero_is_warned_of(tmp_path):
    """Three steps with rates 0.1, 0.1, 0.05: 0.25 gamma in all."""
    schedule = [dict(type="MultiStepLR", milestones=[2], gamma=0.5, by_epoch=False)]
    alpha = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.1))
    settings = dict(alpha=alpha, param_scheduler=schedule)

    penalty = dict(type="ProximalL1", gamma=2.0)
    text = said(tmp_path / "weak", penalty=penalty, **settings)
    assert "ProximalL1 can shrink an entry of alpha by at most 0.5" in text
    assert "by a factor of 2." in text.split("never become zero")[1]

    text = said(tmp_path / "strong", penalty=dict(penalty, gamma=8.0), **settings)
    assert "at most 2 in the rest" in text
    assert "never become zero" not in text

    # Every second step, after no warm-up: only the second of three.
    text = said(tmp_path / "seldom", penalty=penalty, alpha_interval=2, **settings)
    assert "at most 0.2 in the rest" in text

    subgradient = dict(type="L1Penalty", gamma=2.0)
    momentum = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.1, momentum=0.5))
    text = said(
        tmp_path / "momentum", penalty=subgradient, alpha=momentum, param_scheduler=schedule
    )
    assert "L1Penalty can shrink an entry of alpha by at most 1 in the rest" in text
    # Adam moves by its rate, whatever gamma is.
    adam = dict(type="OptimWrapper", optimizer=dict(type="Adam", lr=0.1))
    text = said(tmp_path / "adam", penalty=subgradient, alpha=adam, param_scheduler=schedule)
    assert "at most 0.25 in the rest" in text


@pytest.mark.parametrize(("weights", "plain"), [(SGD, False), (None, True)])
def test_a_plain_virtual_step_is_told(tmp_path, weights, plain):
    text = said(tmp_path, weights=weights, networks=1, alternation=dict(type="DARTS2"))
    assert ("the virtual step with AdamW is the plain w - xi dL_a/dw" in text) == plain


def test_residuals_are_logged_in_every_search(tmp_path):
    class Note(Hook):
        priority = "LOWEST"

        def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
            # Gradients as the first sub-step sees them, by hand.
            model = runner.model
            batch = model.data_preprocessor(data_batch[AUXILIARY], training=True)
            loss = model.auxiliary(batch["inputs"], batch["data_samples"], mode="loss")["loss"]
            w, u = list(model.auxiliary.parameters()), list(model.primary.parameters())
            gradients = torch.autograd.grad(0.7 * loss, w)
            total = [g + 0.3 * (p - q) for g, p, q in zip(gradients, w, u, strict=True)]
            self.wanted.append(torch.cat([t.flatten() for t in total]).norm().item())

    note = Note()
    note.wanted = []
    runner = tiny.runner(
        tmp_path,
        custom_hooks=[note, dict(type="rarts_mm.LagrangianHook", interval=1)],
        optim_wrapper=dict(
            type="rarts_mm.RARTSOptimWrapper",
            constructor="rarts_mm.RARTSOptimWrapperConstructor",
            weights=tiny.weights_config(clip_grad=dict(max_norm=0.1)),
            lam=0.7,
            beta=0.3,
        ),
        default_hooks=dict(logger=dict(type="LoggerHook", interval=1, log_metric_by_epoch=False)),
        log_processor=dict(window_size=1),
    )
    runner.train()
    rows = scalars(tmp_path)
    assert [row["residual_w"] for row in rows] == pytest.approx(note.wanted, rel=1e-4)
    for row in rows:
        assert row["residual_u"] > 0
        assert row["residual_alpha"] > 0


class Normed(nn.Module):
    """Batch norm before the backbone's pooled features, as a neck."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(16)

    def forward(self, feats):
        return (self.norm(feats[-1].mean((2, 3))),)


class Kept(Hook):
    """The normed features' true statistics at the end, over each network's own half."""

    priority = "LOWEST"

    def after_train(self, runner) -> None:
        self.wanted = {}
        for half in (AUXILIARY, PRIMARY):
            network = getattr(runner.model, half)
            means, variances = [], []
            # Ten images in batches of four: two whole ones.
            for batch in itertools.islice(runner.train_loop.loaders[half], 2):
                data = network.data_preprocessor(batch, False)
                with torch.no_grad():
                    x = network.backbone(data["inputs"])[-1].mean((2, 3))
                means.append(x.mean(0))
                variances.append(x.var(0))
            self.wanted[half] = (sum(means) / 2, sum(variances) / 2)
            self.found = getattr(self, "found", {}) | {
                half: (network.neck.norm.running_mean, network.neck.norm.running_var)
            }


@pytest.mark.parametrize("by_epoch", [True, False])
def test_precise_statistics_are_those_of_each_networks_half(tmp_path, by_epoch):
    """In the last checkpoint, too, which is written before the epoch ends where iterations count."""
    from rarts_mm.registry import MODELS

    if MODELS.get("Normed") is None:
        MODELS.register_module(module=Normed)
    kind = tiny.architecture()
    kind["neck"] = dict(type="rarts_mm.Normed")
    kept = Kept()
    runner = tiny.runner(
        tmp_path,
        model=dict(type="rarts_mm.SearchModel", architecture=kind),
        custom_hooks=[kept, dict(type="rarts_mm.PreciseStatisticsHook", num_samples=100)],
        default_hooks=dict(
            checkpoint=dict(type="CheckpointHook", interval=1, by_epoch=by_epoch, max_keep_ckpts=2)
        ),
    )
    runner.train()
    for half in (AUXILIARY, PRIMARY):
        for found, wanted in zip(kept.found[half], kept.wanted[half], strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    files = ["epoch_1.pth"] if by_epoch else ["iter_2.pth", "iter_3.pth"]
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == files
    checkpoint = torch.load(tmp_path / files[-1], weights_only=False)
    assert checkpoint["meta"]["iter"] == 3
    assert (tmp_path / "last_checkpoint").read_text() == str(tmp_path / files[-1])
    saved = checkpoint["state_dict"]
    torch.testing.assert_close(saved["primary.neck.norm.running_mean"], kept.found[PRIMARY][0])
    assert not torch.equal(kept.found[AUXILIARY][0], kept.found[PRIMARY][0])
