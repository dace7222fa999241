"""What a step computes, and how it leaves the networks: no pass, no gradient, no count too many."""

import copy

import pytest
import torch

from rarts_mm.search import ALPHA, AUXILIARY, DARTS2, PRIMARY, frozen_statistics
from tests.search.toy import Setting, Toy
from tests.search.toy_alternations import CASES

A, P = AUXILIARY, PRIMARY
# (network, half, weights need a gradient, alpha needs one), pass by pass.
TRAIN_W, VALIDATE = (A, A, True, False), (A, P, False, True)
DIFFERENCE = [
    (A, A, True, False),
    (A, P, True, True),
    (A, A, False, True),
    (A, A, False, True),
]
EXACT = [(A, A, True, True), (A, P, True, True)]
PASSES = {
    "rarts": [TRAIN_W, (P, P, True, False), (A, A, False, True), (P, P, False, True)],
    "rarts-jacobi": [(A, A, True, True), (P, P, True, True)],
    "darts1": [TRAIN_W, VALIDATE],
    "darts1, alpha first": [VALIDATE, TRAIN_W],
    "darts2": [TRAIN_W, *DIFFERENCE],
    "darts2, xi": [TRAIN_W, *DIFFERENCE],
    "darts2, exact": [TRAIN_W, *EXACT],
    "darts2, exact, xi": [TRAIN_W, *EXACT],
    "darts2, exact, alpha first": [*EXACT, TRAIN_W],
    "darts2, alpha first": [*DIFFERENCE, TRAIN_W],
    "milenas": [TRAIN_W, (A, A, False, True), VALIDATE],
    "joint": [(A, A, True, True), (A, P, True, True)],
    "weights-only": [(A, A, True, False), (A, P, True, False)],
}
# In forward passes F; a backward pass is F for the activations and F for the weights.
COSTS = {"joint": 6, "darts1": 5, "darts2": 13, "milenas": 7, "rarts": 10, "rarts-jacobi": 6}
each_alternation = pytest.mark.parametrize("name", CASES)


@each_alternation
def test_no_gradient_is_computed_that_no_update_uses(name):
    toy, rule = Toy(), CASES[name].rule
    Setting().stepper(toy, rule.players).run(rule, toy)
    assert toy.passes == PASSES[name]


# Whose gradients travel between processes, in the order of a step.
TRAVELS = {
    **dict.fromkeys(("rarts", "rarts-jacobi"), (A, P, ALPHA)),
    **dict.fromkeys(("darts1", "milenas", "joint"), (A, ALPHA)),
    "darts1, alpha first": (ALPHA, A),
    # Its own step; the gradient at w, and at the virtual point.
    **dict.fromkeys(
        ("darts2", "darts2, xi", "darts2, exact", "darts2, exact, xi"), (A, A, A, ALPHA)
    ),
    **dict.fromkeys(("darts2, alpha first", "darts2, exact, alpha first"), (A, A, ALPHA, A)),
    "weights-only": (A,),
}


@each_alternation
def test_only_the_gradients_of_the_group_about_to_step_travel(name):
    toy, rule = Toy(), CASES[name].rule
    stepper = Setting().stepper(toy, rule.players)
    owners = {id(p): n for n, player in stepper.players.items() for p in player.params}
    travels = []

    def reduce(params):
        (owner,) = {owners[id(p)] for p in params}
        assert len(params) == len(stepper.players[owner].params)
        travels.append(owner)

    stepper.reduce = reduce
    stepper.run(rule, toy)
    assert tuple(travels) == TRAVELS[name]


@pytest.mark.parametrize("name", COSTS)
def test_passes_cost_what_the_cost_model_says(name):
    toy, rule = Toy(), CASES[name].rule
    Setting().stepper(toy, rule.players).run(rule, toy)
    assert sum(3 if weights else 2 for _, _, weights, _ in toy.passes) == COSTS[name]


@each_alternation
def test_afterwards_all_are_trainable_and_hold_no_gradient(name):
    toy, rule = Toy(), CASES[name].rule
    stepper = Setting().stepper(toy, rule.players)
    stepper.run(rule, toy)
    stepper.run(rule, toy, alpha_moves=False)
    for player in stepper.players.values():
        assert all(p.requires_grad and p.is_leaf and p.grad is None for p in player.params)


@each_alternation
@pytest.mark.parametrize("parts", [None, {A: (4, 5), P: (2, 4, 3)}])
def test_running_statistics_count_every_batch_once(name, parts):
    toy, rule = Toy(parts=parts), CASES[name].rule
    wanted = copy.deepcopy(toy)
    both_on_one = name in ("joint", "weights-only")
    own = {A: [A, P] if both_on_one else [A], P: [P] if P in rule.players else []}
    for network, halves in own.items():
        for half in halves:
            for part in range(len(wanted.shares(half))):
                wanted.loss(network, half, part)
    Setting(optimizer="sgd", frozen_lr=True).stepper(toy, rule.players).run(rule, toy)
    for network in (A, P):
        for (key, found), (_, value) in zip(
            toy.networks[network].named_buffers(),
            wanted.networks[network].named_buffers(),
            strict=True,
        ):
            assert torch.equal(found, value), key


def test_norms_of_all_kinds_keep_their_statistics_when_frozen():
    """Libraries have batch norms of their own, which torch's class does not cover."""
    kinds = (torch.nn.BatchNorm2d, torch.nn.InstanceNorm2d, torch.nn.SyncBatchNorm)
    network = torch.nn.Sequential(*(kind(3, track_running_stats=True) for kind in kinds))
    before = copy.deepcopy(network.state_dict())
    buffers = {key: id(value) for key, value in network.named_buffers()}
    with frozen_statistics(network):
        out = network(torch.randn(4, 3, 5, 5))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert {key: id(value) for key, value in network.named_buffers()} == buffers
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0.0)


@each_alternation
def test_without_alpha_there_is_no_pass_for_alpha(name):
    toy, rule = Toy(), CASES[name].rule
    stepper = Setting().stepper(toy, rule.players)
    before = [a.detach().clone() for a in toy.alphas]
    buffers = [b.clone() for b in toy.networks[A].buffers()]
    stepper.run(rule, toy, alpha_moves=False)
    # The very first step makes sure that alpha will get gradients, where alpha is to move later.
    probe = [(A, A, False, True)] if ALPHA in rule.players else []
    if "exact" in name:
        probe = [(A, A, True, True), *probe]
    of_weights = [(*p[:2], True, False) for p in PASSES[name] if p[2]]
    if name.startswith("darts2"):
        of_weights = [TRAIN_W]
    assert toy.passes == probe + of_weights
    halves = 2 if name in ("joint", "weights-only") else 1
    assert toy.networks[A].norm.num_batches_tracked == buffers[2] + halves
    toy.passes.clear()
    losses = stepper.run(rule, toy, alpha_moves=False)
    assert toy.passes == of_weights
    assert set(losses) == {half for _, half, _, _ in of_weights}
    assert all(torch.equal(a, b) for a, b in zip(toy.alphas, before, strict=True))
    assert not stepper.players[ALPHA].optimizer.state if ALPHA in rule.players else True


@pytest.mark.parametrize("name", [name for name in CASES if "alpha first" not in name])
def test_steps_without_alpha_change_the_weights_as_steps_with_it(name):
    """Where the weights move first, their first step does not depend on alpha's."""
    rule, ends = CASES[name].rule, []
    for moves in (True, False):
        toy = Toy()
        Setting(optimizer="adamw").stepper(toy, rule.players).run(rule, toy, alpha_moves=moves)
        ends.append([*toy.weights(A), *toy.weights(P)])
    for with_alpha, without in zip(*ends, strict=True):
        torch.testing.assert_close(with_alpha, without, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("derivative", ["finite-difference", "exact"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_virtual_step_leaves_the_weights_bit_for_bit(derivative, optimizer):
    toy, rule = Toy(), DARTS2(0.3, derivative)
    stepper = Setting(optimizer).stepper(toy, rule.players)
    # One real step first, so that momentum takes part.
    stepper.run(rule, toy)
    for group in stepper.players[A].optimizer.param_groups:
        group["lr"] = 0.0
    weights, storage = [w.detach().clone() for w in toy.weights(A)], toy.weights(A)
    pointers = [w.data_ptr() for w in storage]
    alphas = [a.detach().clone() for a in toy.alphas]
    stepper.run(rule, toy)
    assert all(torch.equal(a, b) for a, b in zip(toy.weights(A), weights, strict=True))
    assert all(a is b for a, b in zip(toy.weights(A), storage, strict=True))
    assert [w.data_ptr() for w in toy.weights(A)] == pointers
    assert not any(torch.equal(a, b) for a, b in zip(toy.alphas, alphas, strict=True))


@pytest.mark.parametrize("derivative", ["finite-difference", "exact"])
def test_weights_are_back_after_an_error_at_the_virtual_point(derivative):
    class Broken(Toy):
        def loss(self, network, half, part=0):
            if half == PRIMARY:
                raise MemoryError("no room")
            return super().loss(network, half, part)

    toy, rule = Broken(), DARTS2(0.3, derivative, first="alpha")
    weights = [w.detach().clone() for w in toy.weights(A)]
    with pytest.raises(MemoryError):
        Setting().stepper(toy, rule.players).run(rule, toy)
    assert all(torch.equal(a, b) for a, b in zip(toy.weights(A), weights, strict=True))
    assert all(w.requires_grad for w in toy.weights(A))


def test_alpha_without_a_gradient_is_an_error_in_the_first_step():
    class Detached(Toy):
        def loss(self, network, half, part=0):
            alphas, self.alphas = self.alphas, [a.detach() for a in self.alphas]
            try:
                return super().loss(network, half, part) + 0 * self.other.sum()
            finally:
                self.alphas = alphas

    toy, rule = Detached(), CASES["rarts"].rule
    toy.other = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    for moves in (True, False):
        stepper = Setting().stepper(toy, rule.players)
        with pytest.raises(RuntimeError, match=r"got no gradient in the first step.*reentrant"):
            stepper.run(rule, toy, alpha_moves=moves)
