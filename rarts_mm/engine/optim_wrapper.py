"""MMEngine's sockets for the search's optimisers."""

import copy
import inspect
from collections.abc import Sequence
from contextlib import contextmanager

import torch
from mmengine.dist import all_reduce_params, get_world_size
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict, build_optim_wrapper
from mmengine.registry import OPTIMIZERS
from torch import Tensor, nn

from rarts_mm.registry import (
    ALTERNATIONS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIM_WRAPPERS,
    PENALTIES,
)
from rarts_mm.search import ALPHA, AUXILIARY, PRIMARY, Lagrangian, Player, Problem, Stepper

# What may stand in the optim_wrapper of a search, besides type and constructor.
_KEYS = {"weights", "alpha", "alternation", "lam", "beta", "penalty", "amp"}
_AMP_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def _trainable(wrapper: OptimWrapper) -> list[Tensor]:
    """What an optimiser really moves: frozen stages are in its groups but never get a gradient."""
    params = [p for group in wrapper.optimizer.param_groups for p in group["params"]]
    return [p for p in params if p.requires_grad]


class _StaticGradScaler(torch.amp.GradScaler):
    """A loss scaler whose scale stays where it is; steps with infinite gradients are skipped."""

    def update(self, new_scale: float | Tensor | None = None) -> None:
        super().update(self.get_scale() if new_scale is None else new_scale)


def _average_gradients(params: Sequence[Tensor]) -> None:
    """Average the gradients over all processes; a missing one counts as zero on this rank."""
    for p in params:
        if p.grad is None:
            # Ranks must agree on what they flatten, or they wait for one another for ever.
            p.grad = torch.zeros_like(p)
    all_reduce_params([p.grad for p in params], op="mean")


@OPTIM_WRAPPERS.register_module()
class RARTSOptimWrapper(OptimWrapperDict):
    """The optimisers of w (``auxiliary``), u (``primary``) and ``alpha``, and how they alternate.

    Args:
        alternation: config of the alternation.
        lam: lambda, the weight of the auxiliary loss (thesis, eq. 2.11).
        beta: weight of the coupling beta/2 |u - w|^2.
        penalty: config of the penalty on alpha, a list of such, or None.
        amp: None, or ``dict(dtype='bfloat16' | 'float16', loss_scale='dynamic')``: the networks'
            forward passes run under autocast; alpha and its penalty stay in fp32. With float16 one
            loss scaler serves all three, updated once per step; ``loss_scale`` is 'dynamic', a number
            that stays, or a dict of ``torch.amp.GradScaler``'s arguments.
        optim_wrappers: the member wrappers by name.
    """

    def __init__(
        self,
        alternation: dict,
        lam: float = 1.0,
        beta: float = 0.1,
        penalty: dict | Sequence[dict] | None = None,
        amp: dict | None = None,
        **optim_wrappers: OptimWrapper,
    ) -> None:
        super().__init__(**optim_wrappers)
        self.alternation = ALTERNATIONS.build(alternation)
        missing = set(self.alternation.players) ^ set(optim_wrappers)
        if missing:
            raise ValueError(
                f"{type(self.alternation).__name__} moves {self.alternation.players}, but optimisers "
                f"are given for {tuple(optim_wrappers)}"
            )
        penalties = [penalty] if isinstance(penalty, dict) else list(penalty or ())
        self.lagrangian = Lagrangian(lam, beta, tuple(PENALTIES.build(p) for p in penalties))
        for name, wrapper in self.items():
            if wrapper._accumulative_counts != 1:
                raise ValueError(
                    f"accumulative_counts={wrapper._accumulative_counts} of {name!r}: accumulating "
                    "over whole steps would turn Gauss-Seidel into Jacobi. Use a larger batch."
                )
            if not _trainable(wrapper):
                raise ValueError(
                    f"nothing to train: no parameter of {name!r} requires a gradient; thaw the "
                    "architecture (frozen_stages, requires_grad)"
                )
            if wrapper.clip_grad_kwargs:
                # Each player clips, and logs, a norm of its own.
                wrapper.grad_name = f"{name}.{wrapper.grad_name}"
        self._set_amp(amp)
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

    def _set_amp(self, amp: dict | None) -> None:
        self.amp_dtype, self.scaler = None, None
        if amp is None:
            return
        amp = dict(amp)
        name, scale = amp.pop("dtype", "float16"), amp.pop("loss_scale", "dynamic")
        if amp:
            raise ValueError(f"unknown keys in amp: {sorted(amp)}; known are dtype and loss_scale")
        if name not in _AMP_DTYPES:
            raise ValueError(f"amp.dtype must be one of {sorted(_AMP_DTYPES)}, got {name!r}")
        self.amp_dtype = _AMP_DTYPES[name]
        if self.amp_dtype is not torch.float16:
            return
        if scale == "dynamic":
            self.scaler = torch.amp.GradScaler(self._device_type())
        elif isinstance(scale, dict):
            self.scaler = torch.amp.GradScaler(self._device_type(), **scale)
        elif isinstance(scale, bool) or not isinstance(scale, int | float) or not scale > 0:
            raise ValueError(
                "amp.loss_scale must be 'dynamic', a positive number or a dict of GradScaler's "
                f"arguments, got {scale!r}"
            )
        else:
            self.scaler = _StaticGradScaler(self._device_type(), init_scale=float(scale))

    def _device_type(self) -> str:
        return self[AUXILIARY].param_groups[0]["params"][0].device.type

    @contextmanager
    def optim_context(self, model: nn.Module):
        """Autocast for the networks' forward passes, where ``amp`` asks for it."""
        del model
        if self.amp_dtype is None:
            yield
        else:
            with torch.autocast(self._device_type(), dtype=self.amp_dtype):
                yield

    def search_step(self, problem: Problem) -> dict[str, Tensor]:
        """Perform one step of the alternation on a problem.

        Returns:
            ``loss`` = L_p + lambda L_a, ``loss_primary``, ``loss_auxiliary`` (the last values
            of the step: those that alpha's sub-step saw) and ``penalty`` = gamma P(alpha) before that
            sub-step. A loss that was not evaluated, as the loss scaler skipped the rest of the step,
            is missing, and so is their sum.
        """
        penalty = self.lagrangian.penalty(self.stepper.players[ALPHA].params)
        losses = self.stepper.run(self.alternation, problem)
        for wrapper in self.values():
            # MMEngine's schedulers count calls of the wrapper's step, which a search does not use, and
            # would warn that nothing was stepped before them.
            wrapper._global_step = getattr(wrapper, "_global_step", 0) + 1
        log = {f"loss_{half}": losses[half] for half in (PRIMARY, AUXILIARY) if half in losses}
        if len(log) == 2:
            total = losses[PRIMARY] + self.lagrangian.lam * losses[AUXILIARY]
            log = {"loss": total, **log}
        return {**log, "penalty": torch.as_tensor(penalty)}

    def state_dict(self) -> dict:
        state = super().state_dict()
        if self.scaler is not None:
            state["scaler"] = self.scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        state = dict(state_dict)
        scaler = state.pop("scaler", None)
        if self.scaler is not None and scaler is not None:
            self.scaler.load_state_dict(scaler)
        super().load_state_dict(state)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class RARTSOptimWrapperConstructor:
    """Builds :class:`RARTSOptimWrapper` for a :class:`~rarts_mm.models.SearchModel`.

    The config's keys besides those of :class:`RARTSOptimWrapper`:

    - ``weights``: an ordinary ``optim_wrapper`` config, ``_base_.optim_wrapper`` as it is, with its
      constructor and ``paramwise_cfg``: the optimiser of each network's weights. An
      ``AmpOptimWrapper`` in it switches ``amp`` on.
    - ``alpha``: the same for alpha. By default the weights' optimiser with their learning rate
      and without weight decay ("following Network Slimming": the scores train like the weights).
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        if paramwise_cfg is not None:
            raise ValueError(
                "paramwise_cfg belongs into optim_wrapper.weights, as it speaks of the network's "
                "parameters"
            )
        self.cfg = copy.deepcopy(optim_wrapper_cfg)

    def __call__(self, model: nn.Module) -> RARTSOptimWrapper:
        model = model.module if is_model_wrapper(model) else model
        if not hasattr(model, "alpha_parameters"):
            raise TypeError(
                f"RARTSOptimWrapper searches a rarts_mm.SearchModel, got {type(model).__name__}: "
                "wrap the architecture, model=dict(type='rarts_mm.SearchModel', architecture=...)"
            )
        cfg = dict(self.cfg)
        cfg.pop("type", None)
        if unknown := sorted(set(cfg) - _KEYS):
            raise ValueError(
                f"unknown keys in optim_wrapper: {unknown}; known are {sorted(_KEYS)}. The settings of "
                "an ordinary optim_wrapper (optimizer, clip_grad, ...) belong into its 'weights' and "
                "'alpha'"
            )
        if "weights" not in cfg:
            raise ValueError(
                "optim_wrapper.weights is missing: give the base config's optim_wrapper, "
                "weights=_base_.optim_wrapper"
            )
        alternation = cfg.setdefault("alternation", dict(type="RARTS"))
        players = ALTERNATIONS.get(alternation["type"])
        if players is None:
            raise ValueError(
                f"unknown alternation {alternation['type']!r}; known are "
                f"{sorted(ALTERNATIONS.module_dict)}"
            )
        weights, amp = _without_amp(cfg.pop("weights"))
        alpha = cfg.pop("alpha", None) or alpha_like(weights)
        cfg.setdefault("amp", amp)
        wrappers = {}
        for name in (AUXILIARY, PRIMARY):
            if name in players.players:
                network = getattr(model, name)
                if network is None:
                    raise ValueError(
                        f"{alternation['type']} needs two networks; set model.networks=2"
                    )
                wrappers[name] = build_optim_wrapper(network, weights)
        if PRIMARY not in wrappers and model.primary is not None:
            raise ValueError(
                f"{alternation['type']} trains one network and would leave the second one idle; "
                "set model.networks=1"
            )
        wrappers[ALPHA] = build_optim_wrapper(model.alpha, alpha)
        return RARTSOptimWrapper(**cfg, **wrappers)


def _without_amp(weights: dict) -> tuple[dict, dict | None]:
    """Split a plain optim_wrapper config into one without AMP and the search's ``amp`` config."""
    weights = copy.deepcopy(weights)
    kind = weights.get("type", "OptimWrapper")
    # A class in configs of the new style, and perhaps with a scope in those of the old one.
    kind = kind.rpartition(".")[2] if isinstance(kind, str) else kind.__name__
    if kind == "OptimWrapper":
        return weights, None
    if kind != "AmpOptimWrapper":
        raise ValueError(
            f"optim_wrapper.weights.type={kind!r}: the search steps its optimisers by itself and "
            "knows OptimWrapper and AmpOptimWrapper"
        )
    weights["type"] = "OptimWrapper"
    amp = dict(
        dtype=weights.pop("dtype", None) or "float16",
        loss_scale=weights.pop("loss_scale", "dynamic"),
    )
    if weights.pop("use_fsdp", False):
        raise ValueError("use_fsdp: a search needs whole networks on every process; remove it")
    return weights, amp


def alpha_like(weights: dict) -> dict:
    """The weights' optimiser for alpha: no weight decay, no clipping, no per-parameter settings."""
    optimizer = copy.deepcopy(weights["optimizer"])
    kind = optimizer["type"]
    cls = OPTIMIZERS.get(kind) if isinstance(kind, str) else kind
    # A few have no weight decay (Rprop); the others may have one by default (AdamW).
    if cls is None or "weight_decay" in inspect.signature(cls).parameters:
        optimizer["weight_decay"] = 0.0
    return dict(type="OptimWrapper", optimizer=optimizer)
