"""What the schedulers will do is known before they do it."""

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS

import rarts_mm  # noqa: F401
from rarts_mm.engine.schedules import simulate_schedules

EPOCHS, LENGTH = 4, 5
SCHEDULES = [
    [dict(type="CosineAnnealingLR", by_epoch=True, convert_to_iter_based=True, end=EPOCHS)],
    [
        dict(type="LinearLR", start_factor=0.1, by_epoch=False, end=7),
        dict(type="MultiStepLR", milestones=[2, 3], gamma=0.1, by_epoch=True),
    ],
    [dict(type="LinearParamScheduler", param_name="gamma_factor", start_factor=0.01, end=3)],
    [dict(type="LinearMomentum", start_factor=0.1, end=3), dict(type="ExponentialLR", gamma=0.5)],
    # Waits for a validation's result, so that nobody knows.
    [dict(type="ReduceOnPlateauLR", monitor="loss", patience=1)],
    [],
]


def build(schedules):
    params = [torch.nn.Parameter(torch.ones(2)) for _ in range(3)]
    groups = [dict(params=[p], lr=lr) for p, lr in zip(params, (0.1, 0.02, 0.1), strict=True)]
    wrapper = OptimWrapper(torch.optim.SGD(groups, lr=1.0, momentum=0.9))
    for group in wrapper.param_groups:
        group["gamma_factor"] = 1.0
    defaults = dict(optimizer=wrapper, epoch_length=LENGTH)
    return wrapper, [PARAM_SCHEDULERS.build(dict(s), default_args=defaults) for s in schedules]


def run(wrapper, schedulers, iterations):
    """As the Runner's hook does it; returns the settings that each iteration's step used."""
    seen = []
    for i in iterations:
        keys = ("lr", "gamma_factor", "momentum")
        seen.append([tuple(g[key] for key in keys) for g in wrapper.optimizer.param_groups])
        wrapper.step()
        for one in schedulers:
            if hasattr(one, "need_val_args"):
                continue
            if not one.by_epoch or (i + 1) % LENGTH == 0:
                one.step()
    return seen


@pytest.mark.parametrize("schedules", SCHEDULES)
@pytest.mark.parametrize("start", [0, 8])
def test_the_traces_are_what_happens_then(schedules, start):
    wrapper, schedulers = build(schedules)
    run(wrapper, schedulers, range(start))
    before = [dict(g) for g in wrapper.param_groups]
    states = [dict(s.state_dict()) for s in schedulers]
    iterations = range(start, EPOCHS * LENGTH)

    traces = simulate_schedules(wrapper, schedulers, iterations, LENGTH)
    assert [dict(g) for g in wrapper.param_groups] == before, "the run itself is untouched"
    assert [s.state_dict() for s in schedulers] == states
    # The third group is like the first.
    assert [t.group["lr"] for t in traces] == [before[0]["lr"], before[1]["lr"]]

    happened = run(wrapper, schedulers, iterations)
    for i, trace in enumerate(traces):
        assert trace.lr == [step[i][0] for step in happened]
        assert trace.gamma_factor == [step[i][1] for step in happened]
        assert trace.momentum == [step[i][2] for step in happened]
