"""A small search problem in float64, and the same searches again in plain autograd.

:class:`Toy` is what the package searches; :class:`Plain` computes the printed formulas on a copy of
it with nothing but ``torch.autograd.grad``, ``torch.func.functional_call`` and torch's optimisers.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from rarts_mm.search import (
    ALPHA,
    AUXILIARY,
    PRIMARY,
    HardThreshold,
    L1Penalty,
    Lagrangian,
    LatencyPenalty,
    Penalty,
    Player,
    Problem,
    ProximalL1,
    Stepper,
    frozen_statistics,
)

LAM, BETA, GAMMA = 0.7, 0.3, 0.05
LATENCIES = {"first": [3.0, 1.0, 0.5, 2.0, 4.0, 0.0, 1.5], "second": [0.7, 2.5, 1.1, 0.2, 3.3, 0.9]}


class Net(nn.Module):
    """Three layers with scores between; alpha is given, as both networks share it."""

    def __init__(self, norm: bool = True) -> None:
        super().__init__()
        self.first = nn.Linear(5, 7)
        self.norm = nn.BatchNorm1d(7) if norm else nn.Identity()
        self.second = nn.Linear(7, 6)
        self.third = nn.Linear(6, 3)

    def forward(self, x, alphas):
        x = torch.tanh(self.norm(self.first(x))) * alphas[0]
        return self.third(torch.tanh(self.second(x)) * alphas[1])


class Toy(Problem):
    """Two networks, two alphas, two batches of 9 samples.

    Args:
        norm: whether the networks normalise by the batch.
        parts: into how many samples each each batch is cut, or None for one part.
    """

    def __init__(self, norm: bool = True, parts: Mapping[str, Sequence[int]] | None = None) -> None:
        generator = torch.Generator().manual_seed(1)

        def randn(*shape):
            return torch.randn(*shape, dtype=torch.float64, generator=generator)

        self.networks = {name: Net(norm).double() for name in (AUXILIARY, PRIMARY)}
        with torch.no_grad():
            for network in self.networks.values():
                for p in network.parameters():
                    p.copy_(0.5 * randn(*p.shape))
        self.alphas = [randn(7).requires_grad_(), randn(6).requires_grad_()]
        self.batches = {
            half: (randn(9, 5), torch.randint(3, (9,), generator=generator))
            for half in (AUXILIARY, PRIMARY)
        }
        self.parts = parts
        self.passes: list[tuple] = []

    def shares(self, half):
        return (1.0,) if self.parts is None else tuple(n / 9 for n in self.parts[half])

    def loss(self, network, half, part=0):
        x, y = self.batches[half]
        if self.parts is not None:
            x, y = (t.split(list(self.parts[half]))[part] for t in (x, y))
        weight = next(self.networks[network].parameters())
        self.passes.append((network, half, weight.requires_grad, self.alphas[0].requires_grad))
        return F.cross_entropy(self.networks[network](x, self.alphas), y)

    @contextmanager
    def frozen_statistics(self, network):
        with frozen_statistics(self.networks[network]):
            yield

    def weights(self, network):
        return list(self.networks[network].parameters())

    def state(self) -> list[torch.Tensor]:
        """All weights, buffers and alphas, copied."""
        tensors = [t for n in self.networks.values() for t in (*n.parameters(), *n.buffers())]
        return [t.detach().clone() for t in (*tensors, *self.alphas)]


OPTIMIZERS: dict[str, Callable] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda p: torch.optim.SGD(
        p, lr=0.1, momentum=0.8, weight_decay=0.01, nesterov=True
    ),
    "dampening": lambda p: torch.optim.SGD(
        p, lr=0.2, momentum=0.7, weight_decay=0.02, dampening=0.4
    ),
    "maximize": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.5, maximize=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.1),
}
PENALTIES: dict[str, tuple[Callable[[], Penalty], ...]] = {
    "none": (),
    "l1": (lambda: L1Penalty(GAMMA),),
    "proximal": (lambda: ProximalL1(2.0),),
    "hard": (lambda: HardThreshold(2.0),),
    "latency": (lambda: LatencyPenalty(LATENCIES, gamma=GAMMA),),
    "latency and l1": (lambda: LatencyPenalty(LATENCIES, GAMMA), lambda: L1Penalty(0.3)),
    "latency and proximal": (lambda: LatencyPenalty(LATENCIES, GAMMA), lambda: ProximalL1(2.0)),
}


@dataclass(frozen=True)
class Setting:
    """How the players of a toy move."""

    optimizer: str = "sgd"
    penalties: str = "l1"
    clip: float | None = None
    coupling: str = "gradient"
    gamma_factor: float | None = None
    frozen_lr: bool = False
    made: tuple[Penalty, ...] = field(default=(), compare=False)

    def make(self, params: Sequence[torch.Tensor], name: str) -> torch.optim.Optimizer:
        groups = [dict(params=list(params))]
        if name == ALPHA:
            # A group each, the second with half the rate of the first.
            groups = [dict(params=[p]) for p in params]
        optimizer = OPTIMIZERS[self.optimizer](groups)
        if self.frozen_lr:
            optimizer.param_groups[0]["lr"] = 0.0
        if name == ALPHA:
            optimizer.param_groups[1]["lr"] *= 0.5
            if self.gamma_factor is not None:
                for group in optimizer.param_groups:
                    group["gamma_factor"] = self.gamma_factor
        return optimizer

    def stepper(self, toy: Toy, players: Sequence[str]) -> Stepper:
        """The package's stepper on a toy."""
        penalties = tuple(make() for make in PENALTIES[self.penalties])
        lagrangian = Lagrangian(LAM, BETA, penalties, self.coupling)
        lagrangian.bind(dict(zip(("first", "second"), toy.alphas, strict=True)))
        made = {}
        for name in players:
            params = toy.alphas if name == ALPHA else toy.weights(name)
            made[name] = Player(params, self.make(params, name), self.clip_of(params))
        if ALPHA not in players:
            # As the search's constructor does: what nobody moves asks for no gradient.
            for alpha in toy.alphas:
                alpha.requires_grad_(False)
        return Stepper(made, lagrangian)

    def clip_of(self, params):
        if self.clip is None:
            return None
        return lambda: nn.utils.clip_grad_norm_(params, self.clip)


class Plain:
    """The printed formulas on a copy of a toy."""

    def __init__(self, toy: Toy, setting: Setting, players: Sequence[str]) -> None:
        self.toy = copy.deepcopy(toy)
        self.setting = setting
        self.alphas = self.toy.alphas
        self.optimizers = {name: setting.make(self.params(name), name) for name in players}
        self.factor = 1.0 if setting.gamma_factor is None else setting.gamma_factor
        self.residuals: dict[str, float] = {}

    def params(self, name: str) -> list[torch.Tensor]:
        return self.alphas if name == ALPHA else self.toy.weights(name)

    def loss(
        self, network: str, half: str, weights=None, alphas=None, update_statistics: bool = False
    ):
        """L_half at these weights; running statistics change only where ``update_statistics`` says so."""
        net = self.toy.networks[network]
        weights = self.params(network) if weights is None else weights
        state = dict(zip(dict(net.named_parameters()), weights, strict=True))
        if not update_statistics:
            state |= {name: b.clone() for name, b in net.named_buffers()}
        x, y = self.toy.batches[half]
        return F.cross_entropy(functional_call(net, state, (x, alphas or self.alphas)), y)

    def gradient(self, loss, name: str) -> list[torch.Tensor]:
        return list(torch.autograd.grad(loss, self.params(name)))

    def move(self, name: str, gradient, twin=None) -> None:
        """One optimiser step with these gradients of the losses; ``twin``: the other's old weights."""
        params = self.params(name)
        self.measure(name, gradient, twin)
        gradient = self.clipped(gradient)
        decoupled = self.setting.coupling == "decoupled"
        if twin is not None and not decoupled:
            gradient = [g + BETA * (p - q) for g, p, q in zip(gradient, params, twin, strict=True)]
        if name == ALPHA:
            smooth = self.smooth_penalty_gradient()
            gradient = [g + s for g, s in zip(gradient, smooth, strict=True)]
        optimizer = self.optimizers[name]
        with torch.no_grad():
            if twin is not None and decoupled:
                eta = optimizer.param_groups[0]["lr"]
                for p, q in zip(params, twin, strict=True):
                    p.sub_(eta * BETA * (p - q))
            for p, g in zip(params, gradient, strict=True):
                p.grad = g.detach().clone()
            optimizer.step()
            optimizer.zero_grad()
            if name == ALPHA:
                self.thresholds()

    def clipped(self, gradient):
        if self.setting.clip is None:
            return gradient
        norm = torch.sqrt(sum((g**2).sum() for g in gradient))
        # torch adds 1e-6 to the norm it divides by.
        return [g * torch.clamp(self.setting.clip / (norm + 1e-6), max=1) for g in gradient]

    def smooth_penalty_gradient(self):
        alphas = [a.detach().requires_grad_() for a in self.alphas]
        value = 0 * alphas[0].sum() + 0 * alphas[1].sum()
        kinds = self.setting.penalties
        if "l1" in kinds:
            gamma = 0.3 if "latency" in kinds else GAMMA
            value = value + gamma * sum(a.abs().sum() for a in alphas)
        if "latency" in kinds:
            tables = (torch.tensor(t, dtype=torch.float64) for t in LATENCIES.values())
            value = value + GAMMA * sum(
                (a.softmax(-1) * t).sum() for a, t in zip(alphas, tables, strict=True)
            )
        return torch.autograd.grad(self.factor * value, alphas)

    def thresholds(self) -> None:
        for a, group in zip(self.alphas, self.optimizers[ALPHA].param_groups, strict=True):
            g = group["lr"] * self.factor * 2.0
            if "proximal" in self.setting.penalties:
                a.copy_(a.sign() * (a.abs() - g).clamp(min=0))
            if "hard" in self.setting.penalties:
                a.mul_(a.abs() > (2 * g) ** 0.5)

    def measure(self, name: str, gradient, twin) -> None:
        """The left side of the equilibrium equation, for differentiable penalties and the L1 norm."""
        total = list(gradient)
        if twin is not None:
            pairs = zip(total, self.params(name), twin, strict=True)
            total = [g + BETA * (p - q) for g, p, q in pairs]
        if name == ALPHA:
            smooth = self.smooth_penalty_gradient()
            total = [g + s for g, s in zip(total, smooth, strict=True)]
            threshold = 2.0 * self.factor
            if "proximal" in self.setting.penalties:
                # At zero, the point of g + [-threshold, threshold] that is nearest to 0.
                total = [
                    torch.where(
                        a == 0,
                        g - g.clamp(-threshold, threshold),
                        g + threshold * a.sign(),
                    )
                    for g, a in zip(total, self.alphas, strict=True)
                ]
            if "hard" in self.setting.penalties:
                total = [g * (a != 0) for g, a in zip(total, self.alphas, strict=True)]
        norm = torch.cat([g.detach().flatten() for g in total]).norm()
        self.residuals[name] = norm.item()

    def copy_of(self, name: str) -> list[torch.Tensor]:
        return [p.detach().clone() for p in self.params(name)]


def rarts(s: Plain) -> None:
    """Thesis, eq. 2.12."""
    g = s.gradient(LAM * s.loss(AUXILIARY, AUXILIARY, update_statistics=True), AUXILIARY)
    s.move(AUXILIARY, g, s.copy_of(PRIMARY))
    g = s.gradient(s.loss(PRIMARY, PRIMARY, update_statistics=True), PRIMARY)
    s.move(PRIMARY, g, s.copy_of(AUXILIARY))
    s.move(
        ALPHA,
        s.gradient(LAM * s.loss(AUXILIARY, AUXILIARY) + s.loss(PRIMARY, PRIMARY), ALPHA),
    )


def rarts_jacobi(s: Plain) -> None:
    """The same, all at the old values."""
    old_w, old_u = s.copy_of(AUXILIARY), s.copy_of(PRIMARY)
    g_w = s.gradient(LAM * s.loss(AUXILIARY, AUXILIARY, update_statistics=True), AUXILIARY)
    g_u = s.gradient(s.loss(PRIMARY, PRIMARY, update_statistics=True), PRIMARY)
    g_a = s.gradient(LAM * s.loss(AUXILIARY, AUXILIARY) + s.loss(PRIMARY, PRIMARY), ALPHA)
    s.move(AUXILIARY, g_w, old_u)
    s.move(PRIMARY, g_u, old_w)
    s.move(ALPHA, g_a)


def train_w(s: Plain) -> None:
    s.move(AUXILIARY, s.gradient(s.loss(AUXILIARY, AUXILIARY, update_statistics=True), AUXILIARY))


def validate_alpha(s: Plain) -> None:
    s.move(ALPHA, s.gradient(s.loss(AUXILIARY, PRIMARY), ALPHA))


def darts1(s: Plain) -> None:
    """Thesis, eq. 2.21."""
    train_w(s)
    validate_alpha(s)


def darts1_alpha_first(s: Plain) -> None:
    validate_alpha(s)
    train_w(s)


def milenas(s: Plain) -> None:
    """Thesis, eq. 2.23."""
    train_w(s)
    loss = s.loss(AUXILIARY, AUXILIARY) + LAM * s.loss(AUXILIARY, PRIMARY)
    s.move(ALPHA, s.gradient(loss, ALPHA))


def joint(s: Plain) -> None:
    """Thesis, section 4.1.2."""
    loss = LAM * s.loss(AUXILIARY, AUXILIARY, update_statistics=True)
    loss = loss + s.loss(AUXILIARY, PRIMARY, update_statistics=True)
    *g_w, g_1, g_2 = torch.autograd.grad(loss, [*s.params(AUXILIARY), *s.alphas])
    s.move(AUXILIARY, g_w)
    s.move(ALPHA, [g_1, g_2])


def weights_only(s: Plain) -> None:
    loss = LAM * s.loss(AUXILIARY, AUXILIARY, update_statistics=True)
    loss = loss + s.loss(AUXILIARY, PRIMARY, update_statistics=True)
    s.move(AUXILIARY, s.gradient(loss, AUXILIARY))


def virtual_weights(s: Plain, gradient, xi: float | None) -> list[torch.Tensor]:
    """w - xi * (direction of w's optimiser), as a function of the gradient.

    SGD's formulas are those of torch's documentation; any other optimiser takes a plain step.
    """
    optimizer = s.optimizers[AUXILIARY]
    group = optimizer.param_groups[0]
    out = []
    for p, g in zip(s.params(AUXILIARY), gradient, strict=True):
        d = g
        if isinstance(optimizer, torch.optim.SGD):
            d = -g if group["maximize"] else g
            d = d + group["weight_decay"] * p.detach()
            if group["momentum"]:
                buffer = optimizer.state[p].get("momentum_buffer")
                first = buffer is None
                b = d if first else group["momentum"] * buffer + (1 - group["dampening"]) * d
                d = d + group["momentum"] * b if group["nesterov"] else b
        out.append(p.detach() - (group["lr"] if xi is None else xi) * d)
    return out


def hypergradient(s: Plain, xi: float | None):
    """d/dalpha L_p(w'(alpha), alpha) through the virtual step (thesis, eq. 2.7)."""
    gradient = torch.autograd.grad(
        s.loss(AUXILIARY, AUXILIARY), s.params(AUXILIARY), create_graph=True
    )
    virtual = virtual_weights(s, gradient, xi)
    return torch.autograd.grad(s.loss(AUXILIARY, PRIMARY, weights=virtual), s.alphas)


def finite_difference(s: Plain, xi: float | None, distance: float = 0.01):
    """The same with central differences of d L_a/dalpha (Liu et al., ICLR 2019, eq. 8)."""
    gradient = torch.autograd.grad(s.loss(AUXILIARY, AUXILIARY), s.params(AUXILIARY))
    gradient = [g.requires_grad_() for g in gradient]
    virtual = virtual_weights(s, gradient, xi)
    loss = s.loss(AUXILIARY, PRIMARY, weights=virtual)
    # By the chain rule the virtual step's own factor comes with dL_p/dw'.
    *v, g_1, g_2 = torch.autograd.grad(loss, [*gradient, *s.alphas])
    epsilon = distance / torch.cat([x.flatten() for x in v]).norm()
    sides = []
    for sign in (1, -1):
        there = [
            p.detach() + sign * epsilon * x for p, x in zip(s.params(AUXILIARY), v, strict=True)
        ]
        sides.append(s.gradient(s.loss(AUXILIARY, AUXILIARY, weights=there), ALPHA))
    return [g + (a - b) / (2 * epsilon) for g, a, b in zip((g_1, g_2), *sides, strict=True)]


def darts2(xi: float | None, exact: bool, w_first: bool = True) -> Callable[[Plain], None]:
    """Thesis, eq. 2.7."""
    gradient = hypergradient if exact else finite_difference

    def step(s: Plain) -> None:
        if w_first:
            train_w(s)
        s.move(ALPHA, gradient(s, xi))
        if not w_first:
            train_w(s)

    return step


def assert_equal_states(toy: Toy, plain: Plain, tolerance: float = 1e-10) -> None:
    for found, wanted in zip(toy.state(), plain.toy.state(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)
