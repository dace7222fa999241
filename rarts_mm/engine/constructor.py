"""From a search config's ``optim_wrapper`` to the optimisers of w, u and alpha."""

import copy
import inspect
from collections.abc import Mapping

from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import Registry
from torch import nn

from rarts_mm.cells.places import searched_network
from rarts_mm.registry import ALTERNATIONS, OPTIM_WRAPPER_CONSTRUCTORS, PENALTIES
from rarts_mm.search import ALPHA, AUXILIARY, PRIMARY

from .member_configs import alpha_like, check_member, in_names_of_alpha, without_amp
from .optim_wrapper import RARTSOptimWrapper

# What may stand in the optim_wrapper of a search, besides type and constructor.
_OWN = {"weights", "alpha"}
_KEYS = _OWN | {
    name
    for name, parameter in inspect.signature(RARTSOptimWrapper.__init__).parameters.items()
    if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD and name != "self"
}


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class RARTSOptimWrapperConstructor:
    """Builds :class:`RARTSOptimWrapper` for a :class:`~rarts_mm.models.SearchModel`.

    The config's keys besides those of :class:`RARTSOptimWrapper`:

    - ``weights``: an ordinary ``optim_wrapper`` config, ``_base_.optim_wrapper`` as it is, with its
      constructor and ``paramwise_cfg``: the optimiser of each network's weights. An
      ``AmpOptimWrapper`` in it switches ``amp`` on, its ``accumulative_counts`` become the search's.
    - ``alpha``: the same for alpha. By default the weights' optimiser with their learning rate
      and without weight decay ("following Network Slimming": the scores train like the weights).
      Keys of its ``paramwise_cfg.custom_keys`` are parts of the units' names, with dots.
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
        cfg = {key: value for key, value in self.cfg.items() if key != "type"}
        cfg.setdefault("alternation", dict(type="RARTS"))
        self._check_keys(cfg)
        rule = ALTERNATIONS.build(cfg["alternation"])
        model.rebind()
        self._check_model(rule, model)
        self._tell_unused(rule, cfg)

        weights, amp = without_amp(cfg.pop("weights"))
        alpha, of_alpha = without_amp(cfg.pop("alpha", None) or alpha_like(weights), "alpha")
        if of_alpha and not (amp or cfg.get("amp")):
            raise ValueError(
                "optim_wrapper.alpha.type='AmpOptimWrapper' would change nothing: mixed precision is that "
                "of the networks. Switch it on with optim_wrapper.amp (on a command line --amp), or "
                "leave alpha's type out"
            )
        alpha = in_names_of_alpha(alpha, model.alpha_parameters())
        cfg.setdefault("amp", amp)
        cfg.setdefault("accumulative_counts", weights.pop("accumulative_counts", 1))
        wrappers: dict[str, OptimWrapper] = {}
        for name in (AUXILIARY, PRIMARY):
            if name in rule.players:
                wrappers[name] = build_optim_wrapper(getattr(model, name), weights)
        if ALPHA in rule.players:
            wrappers[ALPHA] = build_optim_wrapper(model.alpha, alpha)
        else:
            # Nobody asks for alpha's gradient, so nothing shall compute it.
            model.alpha.requires_grad_(False)
        wrapper = RARTSOptimWrapper(**cfg, **wrappers)
        wrapper.lagrangian.bind(model.alpha_parameters())
        if (searched := searched_network(model)) is not None:
            for penalty in wrapper.lagrangian.penalties:
                penalty.check(searched)
        if ALPHA in wrapper:
            wrapper.try_penalties()
        return wrapper

    def _check_keys(self, cfg: dict) -> None:
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
        check_rules(cfg)

    def _check_model(self, rule, model: nn.Module) -> None:
        name = type(rule).__name__
        if not model.alpha_parameters():
            raise ValueError(
                "the search space has no architecture parameter: alpha is empty; widen "
                "model.space.include or choose another space"
            )
        if PRIMARY in rule.players and model.primary is None:
            raise ValueError(f"{name} needs two networks; set model.networks=2")
        if PRIMARY not in rule.players and model.primary is not None:
            raise ValueError(
                f"{name} trains one network and would leave the second one idle; set model.networks=1"
            )
        if rule.second_order:
            once = sorted(
                {
                    type(m).__name__
                    for m in model.auxiliary.modules()
                    if type(m).__module__.startswith("mmcv.ops")
                }
            )
            if once:
                raise ValueError(
                    f"{name}, derivative='exact': mmcv's operators cannot be differentiated twice, and "
                    f"the network has {', '.join(once)}; use derivative='finite-difference'"
                )

    def _tell_unused(self, rule, cfg: dict) -> None:
        idle = [key for key in ("lam", "beta") if key in cfg and key not in rule.uses]
        if idle:
            name = type(rule).__name__
            print_log(
                f"{name} does not use optim_wrapper.{' and .'.join(idle)}; they change nothing.",
                logger="current",
            )


def check_rules(cfg: Mapping) -> None:
    """Raise unless a search's ``optim_wrapper`` names optimisers, an alternation and penalties that are there.

    Raises:
        ValueError: with the key's full name.
    """
    check_member("weights", cfg["weights"])
    if cfg.get("alpha"):
        check_member("alpha", cfg["alpha"])
    _check_known("alternation", cfg.get("alternation", dict(type="RARTS")), ALTERNATIONS)
    penalties = cfg.get("penalty") or []
    for penalty in penalties if isinstance(penalties, list | tuple) else [penalties]:
        _check_known("penalty", penalty, PENALTIES)


def _check_known(what: str, cfg: object, registry: Registry) -> None:
    if not isinstance(cfg, Mapping):
        raise ValueError(
            f"optim_wrapper.{what}={cfg!r} must be a dict with a type, such as "
            f"dict(type={sorted(registry.module_dict)[0]!r}); on a command line "
            f"optim_wrapper.{what}.type=..."
        )
    kind = cfg.get("type")
    found = registry.get(kind) if isinstance(kind, str) else kind
    if found is None:
        raise ValueError(f"unknown {what} {kind!r}; known are {sorted(registry.module_dict)}")
    if missing := sorted(getattr(found, "__abstractmethods__", ())):
        raise ValueError(
            f"optim_wrapper.{what}={found.__name__}: the class does not define {', '.join(missing)}, "
            "which it needs to have an effect"
        )
    if registry is ALTERNATIONS and not getattr(found, "players", None):
        raise ValueError(
            f"optim_wrapper.{what}={found.__name__}: the class does not say in ``players`` what it moves; "
            "such as players = ('auxiliary', 'alpha')"
        )
    parameters = inspect.signature(found).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    needed = [
        name
        for name, p in parameters.items()
        if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD and name not in cfg
    ]
    if needed:
        raise ValueError(
            f"optim_wrapper.{what} ({found.__name__}) needs {', '.join(needed)}: give "
            f"optim_wrapper.{what}.{needed[0]}=..."
        )
    if odd := sorted(set(cfg) - {*parameters, "type", "_scope_"}):
        raise ValueError(
            f"unknown key {odd[0]!r} of optim_wrapper.{what} ({found.__name__}); known are "
            f"{sorted(parameters)}"
        )
