"""Relaxed Architecture Search over the channels of any network, from a training loop of one's own."""

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from rarts_mm.registry import ALTERNATIONS
from rarts_mm.search import (
    ALPHA,
    AUXILIARY,
    PRIMARY,
    Alternation,
    L1Penalty,
    Lagrangian,
    Penalty,
    Player,
    Problem,
    Stepper,
    frozen_statistics,
)
from rarts_mm.widths import bind_scores, importance, insert_scores, slice_network
from rarts_mm.widths.flow.attached import attach
from rarts_mm.widths.flow.costs import flop_cost, parameter_cost
from rarts_mm.widths.naming import EVERYWHERE, Names, nearest
from rarts_mm.widths.proof import prove_slicing
from rarts_mm.widths.running import Forward
from rarts_mm.widths.slicing import group_cut

from .choosing import asked_for, choose
from .inputs import calling
from .pruning import found_groups
from .result import Smaller

Loss = Callable[[nn.Module, Any], Tensor]
ALPHA_RATE = 3e-3
WEIGHTS = {"lam": 1.0, "beta": 0.1}
OptimizerOf = Callable[[list[nn.Parameter]], Optimizer]


class Search:
    """A search for the channels of a network that are worth keeping.

    Two copies of the weights, w and u, on two halves of the data share one score alpha per channel (RARTS;
    thesis, Algorithm 2). Each step moves w, u and alpha by first-order gradients of

    .. code-block:: text

        L = L_p(u, alpha) + lambda L_a(w, alpha) + beta/2 |u - w|^2 + gamma P(alpha)

    .. code-block:: python

        search = rarts_mm.Search(model, loss, inputs=images[:1], optimizer=partial(SGD, lr=0.01))
        for batch_a, batch_p in zip(loader_a, loader_p):
            search.step(batch_a, batch_p)
        result = search.prune(ratio=0.4)

    Args:
        model: any network, trained or not; it is not changed.
        loss: ``loss(model, batch)``, a scalar with its graph.
        inputs: an example to run the model on, as for :func:`rarts_mm.prune`.
        optimizer: makes the optimiser of one network's weights from a list of parameters.
        alpha_optimizer: makes alpha's; Adam with a rate of 3e-3 by default.
        alternation: name or object of the rule: ``'RARTS'``, ``'RARTSJacobi'``, ``'DARTS1'``, ``'DARTS2'``,
            ``'MiLeNAS'``, ``'Joint'``.
        lam, beta: lambda and beta of the Lagrangian, 1 and 0.1 by default; for alternations that have them.
        penalty: gamma of the L1 norm of alpha, or penalties of one's own.
        keep: the network that goes on: ``'auxiliary'`` (w) or ``'primary'`` (u).
        include, exclude, heads, forward: as for :func:`rarts_mm.groups`.
        init: initial value of every score; 1 leaves the model's function as it is.

    Attributes:
        groups: what is scored, and what is not and why.
        alpha: group -> (channels,) scores.

    Raises:
        FlowError: the model does not run on the example.
        ValueError: nothing can be scored (with the reasons), or an argument that makes no sense.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        *,
        inputs: Any,
        optimizer: OptimizerOf,
        alpha_optimizer: OptimizerOf | None = None,
        alternation: str | Alternation = "RARTS",
        lam: float | None = None,
        beta: float | None = None,
        penalty: float | Penalty | Iterable[Penalty] = 1e-4,
        keep: str = AUXILIARY,
        include: Names = EVERYWHERE,
        exclude: Names = (),
        heads: bool = False,
        init: float = 1.0,
        forward: Forward | None = None,
    ) -> None:
        self.loss = loss
        self.inputs, self._run = inputs, calling(inputs, forward)
        self._rule = _rule(alternation)
        networks = [name for name in (AUXILIARY, PRIMARY) if name in self._rule.players]
        if keep not in networks:
            raise ValueError(
                f"keep={keep!r} is no network of {type(self._rule).__name__}, which has "
                f"{' and '.join(networks)}"
            )
        self.keep = keep
        self.groups = found_groups(
            model, inputs, include, exclude, self._run, scored=True, heads=heads
        )
        if not self.groups.groups:
            raise ValueError(
                f"There is nothing to score in the {type(model).__name__}.\n{self.groups}"
            )
        # Layers that are at rest in a model that is trained, such as batch norms, stay so.
        self._at_rest = [n for n, m in model.named_modules() if model.training and not m.training]
        self.networks = {AUXILIARY: copy.deepcopy(model)}
        attach(self.networks[AUXILIARY], self.groups)
        self.alpha = insert_scores(self.networks[AUXILIARY], EVERYWHERE, init)
        if PRIMARY in networks:
            self.networks[PRIMARY] = copy.deepcopy(self.networks[AUXILIARY])
            bind_scores(self.networks[PRIMARY], self.alpha)
        self.optimizers = {
            name: _made(optimizer, network.parameters(), name)
            for name, network in self.networks.items()
        }
        if ALPHA in self._rule.players:
            alphas = alpha_optimizer or partial(torch.optim.Adam, lr=ALPHA_RATE)
            self.optimizers[ALPHA] = _made(alphas, self.alpha.values(), ALPHA)
        weights = _weights(self._rule, lam=lam, beta=beta)
        lagrangian = Lagrangian(**weights, penalties=_penalties(penalty))
        lagrangian.bind(self.alpha)
        self._stepper = Stepper(self._players(), lagrangian)

    @property
    def model(self) -> nn.Module:
        """The network that goes on, with its scores."""
        return self.networks[self.keep]

    def step(self, batch_a: Any, batch_p: Any) -> dict[str, Tensor]:
        """One step of the alternation.

        Args:
            batch_a: a batch of the half D_a, by which w is trained.
            batch_p: a batch of the half D_p, by which u and alpha are.

        Returns:
            The losses that the step saw last, ``'auxiliary'`` and ``'primary'``, and ``'penalty'``, which is
            gamma P(alpha) after it; detached.
        """
        for network in self.networks.values():
            network.train()
            for path in self._at_rest:
                network.get_submodule(path).training = False
        losses = self._stepper.run(self._rule, _Losses(self, batch_a, batch_p))
        found = dict(losses)
        if ALPHA in self.optimizers:
            penalty = self._stepper.lagrangian.penalty(self._stepper.players[ALPHA])
            found["penalty"] = torch.as_tensor(penalty)
        return found

    def prune(
        self,
        ratio: float | None = None,
        *,
        params: float | None = None,
        flops: float | None = None,
        criterion: str = "alpha",
        round_to: int = 1,
        min_keep: int = 1,
        scope: str = "global",
        seed: int = 0,
    ) -> Smaller:
        """Cut the channels of the lowest scores, fold the others into the weights, and prove the result.

        The search may go on afterwards.

        Args:
            criterion: ``'alpha'``, or another key of :data:`rarts_mm.widths.CRITERIA` that needs no data.
            ratio, params, flops, round_to, min_keep, scope: as for :func:`rarts_mm.prune`.
            seed: of the criterion ``'random'``.

        Raises:
            ValueError: no search has moved the scores yet, or an option that makes no sense.
            ProofError: the result differs from the network with these scores at zero; please report it.
        """
        asked = asked_for(ratio=ratio, params=params, flops=flops)
        scored = copy.deepcopy(self.model)
        costs = {"params": parameter_cost(scored, self.groups), "flops": flop_cost(self.groups)}
        ranked = importance(scored, criterion, seed, cost=costs["params"])
        kept = choose(self.groups, ranked, costs, asked, round_to, min_keep, scope)
        cut = group_cut(scored, kept)
        model = slice_network(copy.deepcopy(scored), kept)
        proof = prove_slicing(scored, kept, model, forward=self._run, inputs=[self.inputs])
        return Smaller.of(scored, model, self.groups, kept, proof, costs["flops"], cut)

    def state_dict(self) -> dict[str, Any]:
        """All that a search consists of beside its arguments, to go on another day."""
        return {
            "networks": {name: each.state_dict() for name, each in self.networks.items()},
            ALPHA: {name: alpha.detach() for name, alpha in self.alpha.items()},
            "optimizers": {name: each.state_dict() for name, each in self.optimizers.items()},
            "alternation": self._rule.state_dict(),
            "penalties": [each.state_dict() for each in self._stepper.lagrangian.penalties],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave, in a search with the same arguments.

        Raises:
            ValueError: it is that of another search; nothing has been changed then.
        """
        mine = self.state_dict()
        for what in ("networks", ALPHA, "optimizers"):
            if state[what].keys() != mine[what].keys():
                raise ValueError(
                    f"the state is of another search: its {what} are {', '.join(state[what])}, this one's "
                    f"{', '.join(mine[what])}"
                )
        shapes = {**mine["networks"], ALPHA: mine[ALPHA]}
        for part, tensors in shapes.items():
            found = state[ALPHA] if part == ALPHA else state["networks"][part]
            odd = next(
                (n for n in {**tensors, **found} if _shape(tensors, n) != _shape(found, n)), None
            )
            if odd is not None:
                raise ValueError(
                    f"the state is of another search: {odd} of {part} is {_shape(found, odd)} in it and "
                    f"{_shape(tensors, odd)} here"
                )
        for name, network in self.networks.items():
            network.load_state_dict(state["networks"][name])
        with torch.no_grad():
            for name, alpha in self.alpha.items():
                alpha.copy_(state[ALPHA][name])
        for name, each in self.optimizers.items():
            each.load_state_dict(state["optimizers"][name])
        self._rule.load_state_dict(state["alternation"])
        pairs = zip(self._stepper.lagrangian.penalties, state["penalties"], strict=True)
        for penalty, of_penalty in pairs:
            penalty.load_state_dict(of_penalty)

    def _players(self) -> dict[str, Player]:
        of = {name: list(network.parameters()) for name, network in self.networks.items()}
        of[ALPHA] = list(self.alpha.values())
        return {
            name: Player([p for p in of[name] if p.requires_grad], optimizer)
            for name, optimizer in self.optimizers.items()
        }


def _shape(tensors: Mapping[str, Any], name: str) -> tuple[int, ...] | str:
    return tuple(tensors[name].shape) if name in tensors else "missing"


class _Losses(Problem):
    """The losses of a search on one pair of batches."""

    def __init__(self, search: Search, batch_a: Any, batch_p: Any) -> None:
        self.search = search
        self.batches = {AUXILIARY: batch_a, PRIMARY: batch_p}

    def loss(self, network: str, half: str, part: int = 0) -> Tensor:
        del part
        loss = self.search.loss(self.search.networks[network], self.batches[half])
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            found = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise ValueError(f"loss(model, batch) must return a scalar tensor, got {found}")
        return loss.reshape(())

    def frozen_statistics(self, network: str) -> AbstractContextManager:
        return frozen_statistics(self.search.networks[network])


def _rule(alternation: str | Alternation) -> Alternation:
    if isinstance(alternation, Alternation):
        return alternation
    kind = ALTERNATIONS.get(alternation) if isinstance(alternation, str) else None
    if kind is None:
        known = sorted(ALTERNATIONS.module_dict)
        raise ValueError(
            f"alternation={alternation!r} must be one of {', '.join(known)}, or an object of one. "
            f"{nearest(str(alternation), known)}"
        )
    return kind()


def _weights(rule: Alternation, **given: float | None) -> dict[str, float]:
    for name, value in given.items():
        if value is not None and name not in rule.uses:
            raise ValueError(
                f"{name}={value!r} would do nothing: {type(rule).__name__} does not read it; leave it out"
            )
    return {name: WEIGHTS[name] if value is None else value for name, value in given.items()}


def _made(optimizer: OptimizerOf, params: Iterable[nn.Parameter], name: str) -> Optimizer:
    trained = [p for p in params if p.requires_grad]
    if not trained:
        raise ValueError(f"nothing of {name!r} requires a gradient, so there is nothing to train")
    made = optimizer(trained) if callable(optimizer) else None
    there = [p for group in getattr(made, "param_groups", ()) for p in group["params"]]
    if not isinstance(made, Optimizer) or {*map(id, there)} != {*map(id, trained)}:
        raise ValueError(
            f"the optimizer of {name!r} must be made from parameters, as by functools.partial("
            f"torch.optim.SGD, lr=0.01), and move all of them; got {optimizer!r}"
        )
    closure = inspect.signature(type(made).step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ValueError(
            f"{type(made).__name__} of {name!r} evaluates the loss several times per step, which no "
            "alternation can give it; use a first-order optimiser such as SGD or AdamW"
        )
    return made


def _penalties(penalty: float | Penalty | Iterable[Penalty]) -> tuple[Penalty, ...]:
    if isinstance(penalty, Penalty):
        return (penalty,)
    if isinstance(penalty, Iterable):
        return tuple(penalty)
    return (L1Penalty(gamma=penalty),) if penalty else ()
