"""Says before a search starts what its settings amount to, and warns of those that cannot work."""

from mmengine.model import is_model_wrapper
from torch.optim import SGD

from rarts_mm.registry import HOOKS
from rarts_mm.search import ALPHA, AUXILIARY, PRIMARY
from rarts_mm.search.stability import Descent, coupling_bound, coupling_radius

from ..schedules import Trace, simulate_schedules
from .search_hook import SearchHook


@HOOKS.register_module()
class StartUpHook(SearchHook):
    """Looks at the whole schedule before the first step.

    - Warns where eta * beta exceeds what the alternation's order and the optimiser's momentum bear:
      the distance of u and w would grow instead of shrink.
    - Says by how much a penalty can shrink a score in the whole search, and warns if one that is
      there for exact zeros cannot reach zero.
    - Says where second-order DARTS takes a plain virtual step.
    - Lets the space refuse a size of batches (``check_batch``) that its networks cannot be trained with.
    """

    # After a resumed run's state is there.
    priority = "VERY_LOW"

    def before_train(self, runner) -> None:
        wrapper = runner.optim_wrapper
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if hasattr(model.space, "check_batch"):
            whole = runner.train_dataloader.batch_sampler.batch_size
            model.space.check_batch(model.kept, whole // wrapper.accumulative_counts)
        traces = {name: self._simulate(runner, name) for name in wrapper.keys()}  # noqa: SIM118 (no mapping)
        if PRIMARY in wrapper:
            self._check_coupling(runner, wrapper, traces)
        if ALPHA in wrapper:
            self._check_penalties(runner, wrapper, traces[ALPHA])
        rule = wrapper.alternation
        if hasattr(rule, "xi") and not isinstance(wrapper[AUXILIARY].optimizer, SGD):
            runner.logger.info(
                "%s: the virtual step with %s is the plain w - xi dL_a/dw, without its adaptive scaling.",
                type(rule).__name__,
                type(wrapper[AUXILIARY].optimizer).__name__,
            )

    def _simulate(self, runner, name: str) -> list[Trace]:
        schedulers = runner.param_schedulers or []
        if isinstance(schedulers, dict):
            schedulers = schedulers.get(name, [])
        iterations = range(runner.iter, runner.max_iters)
        return simulate_schedules(
            runner.optim_wrapper[name], schedulers, iterations, len(runner.train_dataloader)
        )

    def _check_coupling(self, runner, wrapper, traces: dict[str, list[Trace]]) -> None:
        lagrangian, rule = wrapper.lagrangian, wrapper.alternation
        decoupled = not lagrangian.in_gradient
        if not lagrangian.beta or not (decoupled or isinstance(wrapper[AUXILIARY].optimizer, SGD)):
            return
        for of_w, of_u in zip(traces[AUXILIARY], traces[PRIMARY], strict=False):
            # At a momentum, the larger the step the less stable. Momentum may have a schedule.
            worst: dict[float, tuple[float, float, float]] = {}
            for step in zip(of_w.momentum, of_w.lr, of_u.lr, strict=True):
                nearly = round(step[0], 3)
                worst[nearly] = tuple(map(max, worst.get(nearly, step), step))
            for momentum, rate, other in worst.values():
                if not rate or not other:
                    continue
                descent = Descent(
                    momentum, *(of_w.group.get(k, 0.0) for k in ("dampening", "nesterov"))
                )
                settings = (descent, rule.simultaneous, decoupled)
                steps = rate * lagrangian.beta, other * lagrangian.beta
                if coupling_radius(*steps, *settings) < 1 - 1e-9:
                    continue
                bound = coupling_bound(*settings, ratio=other / rate) / rate
                runner.logger.warning(
                    "The coupling of u and w is unstable: beta=%g at learning rate %g and momentum "
                    "%g makes their distance grow from step to step. %s is stable for beta < %.4g at "
                    "this learning rate; lower optim_wrapper.beta or the learning rate%s.",
                    *(lagrangian.beta, rate, momentum, type(rule).__name__, bound),
                    " (RARTS, with updates one after the other, bears another bound than RARTSJacobi)"
                    if rule.simultaneous
                    else "",
                )
                return

    def _check_penalties(self, runner, wrapper, traces: list[Trace]) -> None:
        if not any(
            wrapper.alpha_moves(i // len(runner.train_dataloader), i)
            for i in range(runner.max_iters)
        ):
            runner.logger.warning(
                "Alpha rests in all %d steps of this search (alpha_warmup=%d epochs, alpha_interval=%d "
                "steps): it will have learned nothing. Lower optim_wrapper.alpha_warmup or "
                "alpha_interval, or raise train_cfg.max_epochs.",
                *(runner.max_iters, wrapper.alpha_warmup, wrapper.alpha_interval),
            )
        params = wrapper.stepper.players[ALPHA].params
        largest = max(float(p.detach().abs().max()) for p in params)
        moves = [
            wrapper.alpha_moves(i // len(runner.train_dataloader), i)
            for i in range(runner.iter, runner.max_iters)
        ]
        for penalty in wrapper.lagrangian.penalties:
            reaches = []
            for trace in traces:
                steps = zip(trace.lr, trace.gamma_factor, moves, strict=True)
                rates = [(lr, lr * factor) for lr, factor, moving in steps if moving]
                plain = isinstance(wrapper[ALPHA].optimizer, SGD)
                momentum = max(trace.momentum, default=0.0) if plain else None
                reaches.append(penalty.reach(rates, momentum))
            reach = min((r for r in reaches if r is not None), default=None)
            if reach is None:
                continue
            name = type(penalty).__name__
            runner.logger.info(
                "%s can shrink an entry of alpha by at most %.4g in the rest of this search; the largest "
                "is %.4g now.",
                *(name, reach, largest),
            )
            if penalty.exact_zeros and reach < largest:
                runner.logger.warning(
                    "%s is there for exact zeros, but with gamma=%g it can shrink an entry of alpha by "
                    "%.4g only, so that entries that the losses leave alone never become zero. Raise "
                    "gamma, alpha's learning rate or the number of epochs by a factor of %.3g.",
                    *(name, penalty.gamma, reach, largest / reach if reach else float("inf")),
                )
