"""The optimisers of w, u and alpha, as one of MMEngine's optim wrappers."""

import inspect
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from logging import WARNING

import torch
from mmengine.dist import all_reduce_params, get_world_size
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import Tensor, nn

from rarts_mm.registry import ALTERNATIONS, OPTIM_WRAPPERS, PENALTIES
from rarts_mm.search import (
    ALPHA,
    AUXILIARY,
    PRIMARY,
    Lagrangian,
    Player,
    Problem,
    SmoothPenalty,
    Stateful,
    Stepper,
    fill_missing_gradients_,
)

from .amp import parse_amp

# Where a checkpoint's ``optimizer`` keeps the states of the alternation and of the penalties.
STATES = "states"
# What stands there beside the players' optimisers.
NO_PLAYERS = frozenset({"scaler", STATES})


def _trainable(wrapper: OptimWrapper) -> list[Tensor]:
    """What an optimiser really moves: frozen stages are in its groups but never get a gradient."""
    params = [p for group in wrapper.optimizer.param_groups for p in group["params"]]
    return [p for p in params if p.requires_grad]


def _average_gradients(params: Sequence[Tensor]) -> None:
    """Average the gradients over all processes; a missing one counts as zero on this rank."""
    # Ranks must agree on what they flatten, or they wait for one another for ever.
    fill_missing_gradients_(params)
    all_reduce_params([p.grad for p in params], op="mean")


@OPTIM_WRAPPERS.register_module()
class RARTSOptimWrapper(OptimWrapperDict):
    """The optimisers of w (``auxiliary``), u (``primary``) and ``alpha``, and how they alternate.

    Its state, which a Runner saves and restores, is that of the members, of the loss scaler, of the
    alternation and of the penalties.

    Args:
        alternation: config of the alternation.
        lam: lambda, the weight of the auxiliary loss (thesis, eq. 2.11).
        beta: weight of the coupling beta/2 |u - w|^2.
        coupling: ``'gradient'`` or ``'decoupled'``, see :class:`~rarts_mm.search.Lagrangian`.
        penalty: config of the penalty on alpha, a list of such, or None.
        amp: None, or ``dict(dtype='bfloat16' | 'float16', loss_scale='dynamic')``: the networks'
            forward passes run under autocast; alpha and its penalty stay in fp32. With float16 one
            loss scaler serves all three, updated once per step; ``loss_scale`` is 'dynamic', a number
            that stays, or a dict of ``torch.amp.GradScaler``'s arguments.
        alpha_interval: alpha moves in every such step, the weights in all.
        alpha_warmup: number of epochs at the start in which alpha rests.
        accumulative_counts: number of micro-batches that a step's batches are computed in. Each
            sub-step accumulates over all of them: the step is that of the whole batch, where its loss
            is the mean over images and no batch norm sees the parts.
        optim_wrappers: the member wrappers by name.
    """

    def __init__(
        self,
        alternation: dict,
        lam: float = 1.0,
        beta: float = 0.1,
        coupling: str = "gradient",
        penalty: dict | Sequence[dict] | None = None,
        amp: dict | None = None,
        alpha_interval: int = 1,
        alpha_warmup: int = 0,
        accumulative_counts: int = 1,
        **optim_wrappers: OptimWrapper,
    ) -> None:
        super().__init__(**optim_wrappers)
        self.alternation = ALTERNATIONS.build(alternation)
        self.alpha_interval = _whole("alpha_interval", alpha_interval, 1)
        self.alpha_warmup = _whole("alpha_warmup", alpha_warmup, 0)
        self.accumulative_counts = _whole("accumulative_counts", accumulative_counts, 1)
        penalties = [penalty] if isinstance(penalty, dict) else list(penalty or ())
        self.lagrangian = Lagrangian(
            lam, beta, tuple(PENALTIES.build(p) for p in penalties), coupling
        )
        self._check()
        device = self[AUXILIARY].param_groups[0]["params"][0].device.type
        self.amp_dtype, self.scaler = parse_amp(amp, device)
        self._device = device
        self._alpha_moves = True
        self.stepper = Stepper(
            {
                name: Player(
                    _trainable(wrapper),
                    wrapper.optimizer,
                    wrapper._clip_grad if wrapper.clip_grad_kwargs else None,
                )
                for name, wrapper in self.items()
            },
            self.lagrangian,
            scaler=self.scaler,
            reduce=_average_gradients if get_world_size() > 1 else None,
        )
        if ALPHA in self:
            # A parameter scheduler with param_name='gamma_factor' makes gamma a schedule.
            for group in self[ALPHA].param_groups:
                group.setdefault("gamma_factor", 1.0)

    def _check(self) -> None:
        """Raise what would otherwise go wrong in the first step, or silently."""
        moved, given = set(self.alternation.players), set(self.keys())
        if moved != given:
            raise ValueError(
                f"{type(self.alternation).__name__} moves {sorted(moved)}, but optimisers are given "
                f"for {sorted(given)}"
            )
        if self.lagrangian.penalties and ALPHA not in given:
            raise ValueError(
                f"{type(self.alternation).__name__} does not move alpha, so that a penalty on it does "
                "nothing; set optim_wrapper.penalty=None"
            )
        for name, wrapper in self.items():
            self._check_member(name, wrapper)

    def _check_member(self, name: str, wrapper: OptimWrapper) -> None:
        kind = type(wrapper.optimizer).__name__
        if wrapper._accumulative_counts != 1:
            raise ValueError(
                f"accumulative_counts={wrapper._accumulative_counts} of {name!r}: accumulating "
                "over whole steps would turn Gauss-Seidel into Jacobi. Set "
                "optim_wrapper.accumulative_counts instead, which accumulates inside each sub-step"
            )
        if not _trainable(wrapper):
            raise ValueError(
                f"nothing to train: no parameter of {name!r} requires a gradient; thaw the "
                "architecture (frozen_stages, requires_grad)"
            )
        if _needs_closure(wrapper.optimizer):
            raise ValueError(
                f"{kind} of {name!r} evaluates the loss several times per step (its step needs a "
                "closure), which no alternation can give it; use a first-order optimiser such as "
                "SGD or AdamW"
            )
        rates = [group.get("lr") for group in wrapper.param_groups]
        if not all(isinstance(rate, float | int | Tensor) for rate in rates):
            raise ValueError(
                f"{kind} of {name!r} has no learning rate (lr={rates[0]!r}), which the coupling's "
                "bound, proximal penalties and the virtual step of DARTS2 read; give one"
            )
        if wrapper.clip_grad_kwargs:
            # Each player clips, and logs, a norm of its own.
            wrapper.grad_name = f"{name}.{wrapper.grad_name}"

    @contextmanager
    def optim_context(self, model: nn.Module):
        """Autocast for the networks' forward passes, where ``amp`` asks for it."""
        del model
        if self.amp_dtype is None:
            yield
        else:
            with torch.autocast(self._device, dtype=self.amp_dtype):
                yield

    def begin_step(self, epoch: int, iteration: int) -> None:
        """Say where the search stands, counted from 0: whether alpha moves depends on it alone."""
        self._alpha_moves = self.alpha_moves(epoch, iteration)

    def alpha_moves(self, epoch: int, iteration: int) -> bool:
        """Whether alpha moves in an iteration, counted from 0 over the whole run."""
        return epoch >= self.alpha_warmup and (iteration + 1) % self.alpha_interval == 0

    def search_step(self, problem: Problem) -> dict[str, Tensor]:
        """Perform one step of the alternation on a problem.

        Returns:
            ``loss`` = L_p + lambda L_a, ``loss_primary``, ``loss_auxiliary`` (the last values
            of the step: those that alpha's sub-step saw) and ``penalty`` = gamma P(alpha) before that
            sub-step. A loss that was not evaluated (the loss scaler skipped the rest of the step, or
            alpha rests and nobody else needs it) is missing, and so is their sum.
        """
        log = {}
        if ALPHA in self:
            log["penalty"] = self.penalty()
        losses = self.stepper.run(self.alternation, problem, self._alpha_moves)
        for wrapper in self.values():
            # MMEngine's schedulers count calls of the wrapper's step, which a search does not use, and
            # would warn that nothing was stepped before them.
            wrapper._global_step = getattr(wrapper, "_global_step", 0) + 1
        log |= {f"loss_{half}": losses[half] for half in (PRIMARY, AUXILIARY) if half in losses}
        if {PRIMARY, AUXILIARY} <= losses.keys():
            log["loss"] = losses[PRIMARY] + self.lagrangian.lam * losses[AUXILIARY]
        return log

    def try_penalties(self) -> None:
        """Compute the penalties and their gradients once, so that what is wrong with them shows."""
        self.penalty()
        for penalty in self.lagrangian.penalties:
            if isinstance(penalty, SmoothPenalty) and penalty.gamma:
                penalty.gradient(self.stepper.players[ALPHA].params)

    def penalty(self) -> Tensor:
        """gamma P(alpha) as it stands."""
        return torch.as_tensor(self.lagrangian.penalty(self.stepper.players[ALPHA]))

    def state_dict(self) -> dict:
        state = super().state_dict()
        if self.scaler is not None:
            state["scaler"] = self.scaler.state_dict()
        if of_parts := {name: s for name, part in self._parts() if (s := part.state_dict())}:
            state[STATES] = of_parts
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        state = dict(state_dict)
        scaler = state.pop("scaler", None)
        if scaler is not None and self.scaler is not None:
            self.scaler.load_state_dict(scaler)
        self._load_states(state.pop(STATES, {}))
        super().load_state_dict(state)

    def _parts(self) -> list[tuple[str, Stateful]]:
        """What may have a state of its own, by a name that says in whose place and of which class."""
        parts = [("alternation", self.alternation)]
        parts += [(f"penalty {i}", p) for i, p in enumerate(self.lagrangian.penalties)]
        return [(f"{place}, {type(part).__name__}", part) for place, part in parts]

    def _load_states(self, saved: Mapping[str, Mapping]) -> None:
        left = dict(saved)
        for name, part in self._parts():
            if name in left:
                part.load_state_dict(left.pop(name))
            elif part.state_dict():
                print_log(
                    f"The checkpoint has no state of the {name}: it begins anew, and the search will not "
                    "be the uninterrupted one.",
                    logger="current",
                    level=WARNING,
                )
        if left:
            print_log(
                f"The checkpoint has states that nothing in this search takes over: {'; '.join(left)}.",
                logger="current",
                level=WARNING,
            )


def _whole(name: str, value: int, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"optim_wrapper.{name}={value!r} must be a whole number >= {least}")
    return value


def _needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty
