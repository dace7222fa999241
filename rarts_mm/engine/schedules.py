"""What the parameter schedulers will do in the rest of a run, found by letting copies of them run."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

from mmengine.optim import OptimWrapper, _ParamScheduler
from torch import Tensor


@dataclass
class Trace:
    """One group of an optimiser over the iterations to come.

    Attributes:
        group: its settings now, without the parameters.
        lr: learning rate in each iteration.
        momentum: in each iteration, 0 where the optimiser knows none.
        gamma_factor: what penalties are multiplied by in each iteration.
    """

    group: dict
    lr: list[float] = field(default_factory=list)
    momentum: list[float] = field(default_factory=list)
    gamma_factor: list[float] = field(default_factory=list)


def simulate_schedules(
    wrapper: OptimWrapper,
    schedulers: Sequence[_ParamScheduler],
    iterations: range,
    epoch_length: int,
) -> list[Trace]:
    """Run copies of the schedulers through the iterations; nothing of the run itself changes.

    Args:
        wrapper: an optimiser's wrapper.
        schedulers: those of this optimiser.
        iterations: from the one that comes next to the last.
        epoch_length: iterations per epoch.

    Returns:
        A trace for each group whose settings differ from all groups before it (parameter-wise
        settings make one group per parameter, most of them alike). Schedulers that wait for a
        validation's result keep their value.
    """
    # MMEngine's wrapper shows one group more, of default settings that no parameter has.
    groups = [
        {k: float(v) if isinstance(v, Tensor) else v for k, v in group.items() if k != "params"}
        for group in wrapper.optimizer.param_groups
    ]
    first: dict[str, int] = {}
    for i, group in enumerate(groups):
        first.setdefault(repr(sorted(group.items(), key=lambda item: item[0])), i)
    chosen = list(first.values())
    stand_in = SimpleNamespace(param_groups=[groups[i] for i in chosen], step=_step, _global_step=0)
    copies = []
    for scheduler in schedulers:
        if getattr(scheduler, "need_val_args", False):
            continue
        one = copy.copy(scheduler)
        one.optimizer = stand_in
        one.base_values = [scheduler.base_values[i] for i in chosen]
        one.verbose = False
        copies.append(one)
    traces = [Trace(dict(group)) for group in stand_in.param_groups]
    for iteration in iterations:
        for trace, group in zip(traces, stand_in.param_groups, strict=True):
            trace.lr.append(group["lr"])
            trace.momentum.append(group.get("momentum", 0.0))
            trace.gamma_factor.append(group.get("gamma_factor", 1.0))
        end_of_epoch = (iteration + 1) % epoch_length == 0
        for one in copies:
            if end_of_epoch or not one.by_epoch:
                one.step()
    return traces


def _step() -> None:
    """Stands for the optimiser's step, which schedulers want to have been called before theirs."""


# What MMEngine's schedulers look for on it.
_step._with_counter = True
