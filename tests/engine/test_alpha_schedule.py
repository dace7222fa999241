"""When alpha moves, and how its penalty is scheduled."""

import pytest
import torch
from mmengine.hooks import Hook

from tests import tiny


class Watch(Hook):
    """Notes in every iteration what alpha did, and what the networks were asked for."""

    priority = "LOWEST"

    def before_train(self, runner) -> None:
        self.moved, self.passes, self.gamma, self.penalties = [], [], [], []
        self.count = 0
        runner.model.auxiliary.backbone.register_forward_hook(self._count)

    def _count(self, *_):
        self.count += 1

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self.count = 0
        self.before = [a.detach().clone() for a in runner.model.alpha.parameters()]
        alpha = runner.optim_wrapper["alpha"]
        self.gamma.append(alpha.optimizer.param_groups[0]["gamma_factor"])

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        now = list(runner.model.alpha.parameters())
        self.moved.append(any(not torch.equal(a, b) for a, b in zip(self.before, now, strict=True)))
        self.passes.append(self.count)
        self.penalties.append(float(outputs["penalty"]))


def search(tmp_path, epochs=2, param_scheduler=None, **cfg):
    watch = Watch()
    wrapper = dict(
        type="rarts_mm.RARTSOptimWrapper",
        constructor="rarts_mm.RARTSOptimWrapperConstructor",
        weights=tiny.weights_config(),
        **cfg,
    )
    runner = tiny.runner(
        tmp_path,
        epochs=epochs,
        custom_hooks=[watch],
        optim_wrapper=wrapper,
        param_scheduler=param_scheduler,
    )
    runner.train()
    return watch


def test_alpha_moves_every_kth_step_and_costs_nothing_else(tmp_path):
    watch = search(tmp_path, alpha_interval=2)
    assert watch.moved == [False, True] * 3
    # One pass more than the others' at the very first: does alpha get gradients at all?
    assert watch.passes == [2, 2, 1, 2, 1, 2]


def test_alpha_rests_through_its_warm_up(tmp_path):
    watch = search(tmp_path, epochs=3, alpha_warmup=2)
    assert watch.moved == [False] * 6 + [True] * 3
    assert watch.passes == [2] + [1] * 5 + [2] * 3


def test_gammas_schedule_is_one_of_mmengines(tmp_path):
    schedule = dict(
        alpha=[
            dict(
                type="LinearParamScheduler",
                param_name="gamma_factor",
                start_factor=0.25,
                end_factor=1.0,
                by_epoch=False,
                begin=0,
                end=4,
            )
        ],
        auxiliary=[],
        primary=[],
    )
    penalty = dict(type="L1Penalty", gamma=0.5)
    watch = search(
        tmp_path,
        param_scheduler=schedule,
        penalty=penalty,
        alpha=dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.0)),
    )
    assert watch.gamma == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 1.0])
    number = sum(a.numel() for a in watch.before)
    # Scores are 1, and stay there at learning rate 0.
    assert watch.penalties == pytest.approx([0.5 * number * g for g in watch.gamma])


@pytest.mark.parametrize("name", ["alpha_interval", "alpha_warmup", "accumulative_counts"])
@pytest.mark.parametrize("value", [-1, 1.5, True, "2"])
def test_counts_are_checked(name, value):
    with pytest.raises(ValueError, match=rf"{name}={value!r} must be a whole number"):
        tiny.wrap(tiny.search_model(), **{name: value})


def test_without_a_gradient_a_warm_up_fails_at_once():
    model = tiny.search_model()
    wrapper = tiny.wrap(model, alpha_warmup=5)
    for layer in model.modules():
        if "alpha" in layer.__dict__:
            layer.__dict__["alpha"] = layer.__dict__["alpha"].detach()
    wrapper.begin_step(epoch=0, iteration=0)
    with pytest.raises(RuntimeError, match=r"architecture parameters|depends on nothing"):
        model.train_step(tiny.batches(), wrapper)
