"""The mechanism that all alternations share: who gets a gradient, and how it becomes a step.

An alternation (``alternations/``) is a short rule; it says *which* gradients are taken *where*, in
which order. This file knows how: gradients only where an update uses them, micro-batches, clipping
before the coupling, loss scaling, averaging over processes.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from .alpha_gradients import AlphaGradients
from .draws import preserve_rng
from .lagrangian import Lagrangian
from .player import Player, fill_missing_gradients_
from .problem import ALPHA, SYMBOLS, Problem
from .second_derivative import REMEDY, check_twice_differentiable


class Stepper:
    """Takes gradients of the losses and performs the players' steps.

    Args:
        players: ``'auxiliary'`` (w) and, as the alternation moves them, ``'primary'`` (u) and
            ``'alpha'``.
        lagrangian: the weights lambda and beta and the penalties.
        scaler: one loss scaler for all players (fp16), or None.
        reduce: averages the gradients of the given parameters over all processes, or None.

    Attributes:
        measure: whether the next steps note their ``residuals``.
        residuals: norms of the equilibrium equations' left sides (thesis, eq. 2.19), by player, as
            the last measured step's sub-steps saw them: before clipping, coupling and penalty
            included.
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
        self.measure = False
        self.residuals: dict[str, Tensor] = {}
        self._problem: Problem | None = None
        self._moving: frozenset[str] = frozenset()
        self._skip = False
        self._alpha_gradients = AlphaGradients()
        self._checked_graph = False

    def run(
        self,
        rule: Callable[["Stepper"], None],
        problem: Problem,
        alpha_moves: bool = True,
    ) -> dict[str, Tensor]:
        """Perform one step of an alternation.

        Args:
            rule: the alternation.
            problem: the losses on this step's batches.
            alpha_moves: False leaves alpha, and all passes that only serve it, out of this step.

        Returns:
            The last value of each half's loss in this step: ``{'auxiliary': L_a, 'primary': L_p}``,
            detached. A loss that was not evaluated is missing.
        """
        self._problem, self._skip, self.losses = problem, False, {}
        self._moving = frozenset(self.players) - (frozenset() if alpha_moves else {ALPHA})
        if self.measure:
            self.residuals = {}
        self._require_gradients(())
        try:
            if not alpha_moves:
                self._probe_alpha(getattr(rule, "second_order", False))
            rule(self)
            if self.scaler is not None:
                self.scaler.update()
        finally:
            self._require_gradients(self.players)
            self._problem = None
        return self.losses

    def moves(self, name: str) -> bool:
        """Whether a player takes part in this step, and nothing has made the rest of it void."""
        return name in self._moving and not self._skip

    def gradients(
        self,
        network: str,
        half: str,
        of: Iterable[str],
        factor: float = 1.0,
        update_statistics: bool | None = None,
        full_precision: bool = False,
    ) -> None:
        """Add factor * d L_half(network, alpha) to the gradients of the players in ``of``.

        Everybody else requires no gradient meanwhile: what no update uses is neither computed nor,
        where only a weight's gradient would need it, kept in memory.

        Args:
            update_statistics: whether this pass updates the network's running statistics; by default a pass
                for the network's own step does, and one for alpha alone does not.
            full_precision: compute without mixed precision.
        """
        of = tuple(name for name in of if self.moves(name))
        if not of:
            return
        self._require_gradients(of)
        statistics = self._statistics(
            network, network in of if update_statistics is None else update_statistics
        )
        with statistics, self._problem.full_precision() if full_precision else nullcontext():
            for loss, share in self._parts(network, half, of):
                if loss.requires_grad:
                    self._scaled(loss, share * factor).backward()

    def differentiable_gradient(self, network: str, half: str) -> list[Tensor]:
        """d L_half(network, alpha) by the network's weights as a graph, to be differentiated by alpha.

        Its values are also added to the weights' gradients, from where :meth:`collect` takes them.
        """
        player = self.players[network]
        self._require_gradients((network, ALPHA))
        total = None
        # torch's fused attention kernels cannot be differentiated twice.
        with self._statistics(network, False), sdpa_kernel(SDPBackend.MATH):
            for loss, share in self._parts(network, half, (network, ALPHA)):
                gradient = torch.autograd.grad(
                    self._scaled(loss, share), player.params, create_graph=True, allow_unused=True
                )
                gradient = [
                    torch.zeros_like(p) if g is None else g
                    for p, g in zip(player.params, gradient, strict=True)
                ]
                total = gradient if total is None else torch._foreach_add(total, gradient)
        if not self._checked_graph:
            check_twice_differentiable(total)
            self._checked_graph = True
        for p, g in zip(player.params, total, strict=True):
            p.grad = g.detach().clone()
        return total

    def add_product(self, gradient: Sequence[Tensor], v: Sequence[Tensor], factor: float) -> None:
        """Add factor * d/dalpha <gradient, v> to alpha's gradients."""
        alphas = self.players[ALPHA].params
        pairs = [(g, x) for g, x in zip(gradient, v, strict=True) if g.requires_grad]
        if not pairs:
            return
        graphs, vectors = zip(*pairs, strict=True)
        try:
            # What is computed again for the graph is computed as it was.
            with sdpa_kernel(SDPBackend.MATH):
                products = torch.autograd.grad(graphs, alphas, vectors, allow_unused=True)
        except RuntimeError as error:
            if "derivative for" in str(error):
                raise RuntimeError(
                    "the network cannot be differentiated twice "
                    f"({str(error).splitlines()[0]}); {REMEDY}"
                ) from error
            raise
        for alpha, product in zip(alphas, products, strict=True):
            if product is None:
                continue
            alpha.grad = torch.zeros_like(alpha) if alpha.grad is None else alpha.grad
            alpha.grad.add_(product, alpha=factor)

    def collect(self, name: str) -> list[Tensor] | None:
        """Take out the gradients that a player holds: averaged over processes, unscaled.

        Returns:
            One for each parameter; None where the loss scaler's factor was too much for them, which
            makes alpha's sub-step void (:meth:`invalidate`).
        """
        player = self.players[name]
        if self.reduce is not None:
            self.reduce(player.params)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in player.params]
        for p in player.params:
            p.grad = None
        if self.scaler is not None:
            torch._foreach_mul_(gradients, 1.0 / self.scaler.get_scale())
            if not torch.stack(torch._foreach_norm(gradients, math.inf)).isfinite().all():
                self.invalidate(ALPHA)
                return None
        return gradients

    def invalidate(self, name: str) -> None:
        """Make a player's gradient infinite, since what it would be computed from is.

        A loss scaler then skips its sub-step and those after it; without one its parameters are no
        numbers after it, which ends the run.
        """
        for p in self.players[name].params:
            p.grad = torch.full_like(p, math.inf)

    def descend(self, name: str, coupled_to: str | None = None) -> None:
        """Turn the gradients that a player holds into one step of its optimiser."""
        self.descend_at_once((name, coupled_to))

    def descend_at_once(self, *moves: tuple[str, str | None]) -> None:
        """Steps of several players, each coupled to the old values of the other.

        Args:
            moves: pairs of a player and the one it is coupled to, or None.
        """
        moves = tuple(move for move in moves if self.moves(move[0]))
        for name, other in moves:
            self._complete(name, other)
        if self._skip:
            return
        self._pull(moves)
        for name, _ in moves:
            self._move(name)

    def _complete(self, name: str, coupled_to: str | None) -> None:
        """Make a player's gradient that of the Lagrangian: average, unscale, clip, then add the
        coupling beta * (this - other) or, for alpha, the penalty's gradient."""
        if self._skip:
            return
        player = self.players[name]
        self._require_gradients((name,))
        if name == ALPHA:
            self._alpha_gradients.check(player.params)
        if self.reduce is not None:
            self.reduce(player.params)
        if name == ALPHA:
            # The formula's step, whatever the losses depend on: the penalties act, momentum goes on,
            # and one process does what several do, which average zeros.
            fill_missing_gradients_(player.params)
        if self.scaler is not None:
            self.scaler.unscale_(player.optimizer)
            found = self.scaler._found_inf_per_device(player.optimizer).values()
            if sum(value.item() for value in found):
                # This sub-step and those after it would mix old and new values of one step.
                self._skip = True
                self._zero_gradients()
                return
        other = None if coupled_to is None else self.players[coupled_to].params
        if self.measure:
            self.residuals[name] = (
                self.lagrangian.alpha_residual(player)
                if name == ALPHA
                else self.lagrangian.residual(player, other)
            )
        if player.clip is not None:
            player.clip()
        if other is not None and self.lagrangian.in_gradient:
            self.lagrangian.add_coupling_(player.params, other)
        if name == ALPHA:
            self.lagrangian.add_penalty_gradient_(player)

    def _pull(self, moves: Sequence[tuple[str, str | None]]) -> None:
        """The decoupled coupling of all that move, each towards the old value of its twin."""
        if self.lagrangian.in_gradient:
            return
        coupled = [(name, other) for name, other in moves if other is not None]
        towards = {}
        for i, (_, other) in enumerate(coupled):
            params = self.players[other].params
            moved_before = other in {name for name, _ in coupled[:i]}
            towards[other] = [p.detach().clone() for p in params] if moved_before else params
        for name, other in coupled:
            self.lagrangian.pull_(self.players[name], towards[other])

    def _move(self, name: str) -> None:
        """One step of a player's optimiser with the gradient it holds."""
        player = self.players[name]
        if self.scaler is not None:
            self.scaler.step(player.optimizer)
        else:
            player.optimizer.step()
        if name == ALPHA:
            self.lagrangian.proximal_(player)
        player.optimizer.zero_grad(set_to_none=True)

    def _parts(
        self, network: str, half: str, of: tuple[str, ...]
    ) -> Iterable[tuple[Tensor, float]]:
        """The losses of a batch's parts, one after the other, with their shares.

        Of alpha alone a loss may be independent, where all that is scored was skipped at random.
        """
        for part, share in enumerate(self._problem.shares(half)):
            loss = self._problem.loss(network, half, part)
            if not loss.requires_grad and of != (ALPHA,):
                raise RuntimeError(
                    f"the loss of {network!r} on the {half} half depends on nothing that is to get a "
                    "gradient: no weight that is trained takes part in it"
                )
            self._alpha_gradients.look_at(loss)
            value = loss.detach() * share
            self.losses[half] = value if part == 0 else self.losses[half] + value
            yield loss, share

    def _scaled(self, loss: Tensor, factor: float) -> Tensor:
        if factor != 1.0:
            loss = loss * factor
        return loss if self.scaler is None else self.scaler.scale(loss)

    @contextmanager
    def _statistics(self, network: str, update_statistics: bool):
        if update_statistics:
            yield
        else:
            with self._problem.frozen_statistics(network):
                yield

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

    def _probe_alpha(self, twice: bool) -> None:
        """Where the first steps leave alpha out, see now that it will get gradients.

        Better one more pass than an error after the warm-up's hours.

        Args:
            twice: whether they are second derivatives.
        """
        if self._alpha_gradients.begun or ALPHA not in self.players:
            return
        network = next(name for name in SYMBOLS if name in self.players)
        # A resumed run does this again, in another step than the uninterrupted one.
        with preserve_rng():
            if twice:
                gradient = self.differentiable_gradient(network, network)
                self.add_product(gradient, [g.detach() for g in gradient], factor=1.0)
                del gradient
            self._require_gradients((ALPHA,))
            with self._statistics(network, update_statistics=False):
                for loss, share in self._parts(network, network, (ALPHA,)):
                    if loss.requires_grad:
                        (loss * share).backward()
        self._alpha_gradients.check(self.players[ALPHA].params)
        self._zero_gradients()
        self._require_gradients(())
        self.losses = {}
