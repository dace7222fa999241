"""The mechanism that all alternations share: who gets a gradient, and how it becomes a step.

An alternation (``alternations.py``) is a short rule; it says *which* gradients are taken *where*, in
which order. This file knows how: gradients only where an update uses them, clipping before the
coupling, loss scaling, averaging over processes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from .lagrangian import Lagrangian
from .problem import ALPHA, Problem

_CHECKPOINTING = (
    "Either a scored layer takes no part in the loss, or activation checkpointing of the reentrant "
    "kind is on, which drops alpha's gradients in silence: switch `with_cp` off in the architecture "
    "and `activation_checkpointing` off in the config."
)


@dataclass
class Player:
    """A group of parameters that one optimiser moves: w, u or alpha.

    Args:
        params: the leaf tensors, all of which require a gradient.
        optimizer: any torch optimiser over exactly these.
        clip: called without arguments to clip the gradients of ``params`` in place.
    """

    params: Sequence[Tensor]
    optimizer: Optimizer
    clip: Callable[[], None] | None = None


class Stepper:
    """Takes gradients of the losses and performs the players' steps.

    Args:
        players: ``'auxiliary'`` (w), ``'alpha'`` and, for two-network searches, ``'primary'`` (u).
        lagrangian: the weights lambda and beta and the penalties.
        scaler: one loss scaler for all players (fp16), or None.
        reduce: averages the gradients of the given parameters over all processes, or None.
    """

    def __init__(
        self,
        players: Mapping[str, Player],
        lagrangian: Lagrangian,
        scaler: torch.amp.GradScaler | None = None,
        reduce: Callable[[Sequence[Tensor]], None] | None = None,
    ) -> None:
        self.players = dict(players)
        self.lagrangian = lagrangian
        self.scaler = scaler
        self.reduce = reduce
        self.losses: dict[str, Tensor] = {}
        self._problem: Problem | None = None
        self._skip = False
        self._checked_alpha = False

    def run(self, rule: Callable[["Stepper"], None], problem: Problem) -> dict[str, Tensor]:
        """Perform one step of an alternation.

        Returns:
            The last value of each half's loss in this step: ``{'auxiliary': L_a, 'primary': L_p}``,
            detached.
        """
        self._problem, self._skip, self.losses = problem, False, {}
        self._require_gradients(())
        try:
            rule(self)
            if self.scaler is not None:
                self.scaler.update()
        finally:
            self._require_gradients(self.players)
            self._problem = None
        return self.losses

    def gradients(self, network: str, half: str, of: Iterable[str], factor: float = 1.0) -> None:
        """Add factor * d L_half(network, alpha) to the gradients of the players in ``of``.

        Everybody else requires no gradient meanwhile: what no update uses is neither computed nor,
        where only a weight's gradient would need it, kept in memory.
        """
        if self._skip:
            return
        of = tuple(of)
        self._require_gradients(of)
        if network in of:
            self._backward(network, half, factor)
        else:
            with self._problem.frozen_statistics(network):
                self._backward(network, half, factor)

    def _backward(self, network: str, half: str, factor: float) -> None:
        loss = self._problem.loss(network, half)
        self.losses[half] = loss.detach()
        if not loss.requires_grad:
            raise RuntimeError(
                f"the loss of {network!r} on the {half} half depends on nothing that is to get a "
                f"gradient. {_CHECKPOINTING}"
            )
        if factor != 1.0:
            loss = loss * factor
        if self.scaler is not None:
            loss = self.scaler.scale(loss)
        loss.backward()

    def descend(self, name: str, coupled_to: str | None = None) -> None:
        """Turn the gradients that a player holds into one step of its optimiser."""
        self.complete(name, coupled_to)
        self.move(name)

    def complete(self, name: str, coupled_to: str | None = None) -> None:
        """Make a player's gradient that of the Lagrangian: average, unscale, clip, then add the
        coupling beta * (this - other) or, for alpha, the penalty's gradient."""
        if self._skip:
            return
        player = self.players[name]
        self._require_gradients((name,))
        if name == ALPHA:
            self._check_alpha_gradients(player)
        if self.reduce is not None:
            self.reduce(player.params)
        if self.scaler is not None:
            self.scaler.unscale_(player.optimizer)
            found = self.scaler._found_inf_per_device(player.optimizer).values()
            if sum(value.item() for value in found):
                # This sub-step and those after it would mix old and new values of one step.
                self._skip = True
                self._zero_gradients()
                return
        if player.clip is not None:
            player.clip()
        if coupled_to is not None:
            self.lagrangian.add_coupling_(player.params, self.players[coupled_to].params)
        if name == ALPHA:
            self.lagrangian.add_penalty_gradient_(player.params)

    def move(self, name: str) -> None:
        """One step of a player's optimiser with the gradient it holds."""
        if self._skip:
            return
        player = self.players[name]
        if self.scaler is not None:
            self.scaler.step(player.optimizer)
        else:
            player.optimizer.step()
        player.optimizer.zero_grad(set_to_none=True)

    def _require_gradients(self, names: Iterable[str]) -> None:
        names = set(names)
        for name, player in self.players.items():
            wanted = name in names
            if player.params and player.params[0].requires_grad != wanted:
                for p in player.params:
                    p.requires_grad_(wanted)

    def _zero_gradients(self) -> None:
        for player in self.players.values():
            player.optimizer.zero_grad(set_to_none=True)

    def _check_alpha_gradients(self, player: Player) -> None:
        """On the first step every alpha must have a gradient; reentrant checkpointing loses them."""
        if self._checked_alpha:
            return
        missing = [i for i, p in enumerate(player.params) if p.grad is None]
        if missing:
            raise RuntimeError(
                f"{len(missing)} of {len(player.params)} architecture parameters (numbers "
                f"{missing[:5]}) got no gradient in the first step. {_CHECKPOINTING}"
            )
        self._checked_alpha = True
