"""The search networks compute what their formulas say: outputs, gradients and running statistics."""

import copy
import importlib
from pathlib import Path

import pytest
import torch

from rarts_mm.cells import DARTSSearchNetwork, NATSSearchNetwork, Softmax
from rarts_mm.cells.mixing import weighted_norm, weighted_sums
from tests import tiny
from tests.cells.searches import SPACES, batches, small

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NETWORKS = {
    "darts": lambda: DARTSSearchNetwork(channels=4, layers=4),
    "darts-2-nodes": lambda: DARTSSearchNetwork(channels=4, layers=3, nodes=2),
    "nats": lambda: NATSSearchNetwork(channels=4, repeats=1),
}


@pytest.fixture
def literal(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("steps.literal_supernet").literal_forward


def build(kind: str, seed: int = 0):
    """A network with random statistics, a copy of it, and its alpha, in float64."""
    torch.manual_seed(seed)
    network = NETWORKS[kind]().double()
    for buffer in network.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    alphas = {
        name: torch.randn(shape, dtype=torch.float64).requires_grad_()
        for name, shape in network.shapes.items()
    }
    network.bind(alphas, Softmax())
    return network, copy.deepcopy(network), alphas


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("darts", (8, 8)),
        pytest.param("darts", (9, 14), marks=pytest.mark.slow),
        ("darts-2-nodes", (7, 8)),
        ("nats", (8, 12)),
    ],
    ids=str,
)
def test_outputs_gradients_and_statistics_are_those_of_the_literal_sum(
    literal, kind, size, training
):
    network, other, alphas = build(kind)
    network.train(training)
    other.train(training)
    x = torch.randn(3, 3, *size, dtype=torch.float64, requires_grad=True)
    found, wanted = network(x)[0], literal(other, x, alphas)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    # A random cotangent: sums of normed outputs would have no gradient at all.
    cotangent = torch.randn_like(wanted)
    inputs = [x, *alphas.values()]
    gradients = torch.autograd.grad(found, [*inputs, *network.parameters()], cotangent)
    expected = torch.autograd.grad(wanted, [*inputs, *other.parameters()], cotangent)
    scale = max(g.abs().max().item() for g in expected)
    for one, two in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-10 * scale)
    states = network.state_dict(), other.state_dict()
    assert states[0].keys() == states[1].keys()
    for key, value in states[1].items():
        torch.testing.assert_close(states[0][key], value, rtol=1e-10, atol=1e-10, msg=key)
    if kind != "nats":
        counts = [v.item() for k, v in states[0].items() if k.endswith("num_batches_tracked")]
        assert set(counts) == {int(training)}


@pytest.mark.parametrize("kind", NETWORKS)
def test_what_hangs_on_an_operation_is_called(literal, kind):
    """Hooks, and forward passes that somebody replaced (activation checkpointing)."""
    network, other, alphas = build(kind)
    seen = []
    operation = network.cells[0].edges[3].operations[3]
    operation.register_forward_hook(lambda *_: seen.append("hook"))
    edge = network.cells[-1].edges[1]
    own = edge.forward
    edge.forward = lambda *args: seen.append("forward") or own(*args)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(network(x)[0], literal(other, x, alphas), rtol=1e-10, atol=1e-10)
    assert seen == ["hook", "forward"]


def test_norms_of_another_kind_run_as_they_are(literal):
    """As after the conversion to synchronised norms: a subclass stands in for them."""

    class Other(torch.nn.BatchNorm2d):
        calls = 0

        def forward(self, x):
            Other.calls += 1
            return super().forward(x)

    network, other, alphas = build("darts")
    count = 0
    for name, module in network.named_modules():
        if type(module) is torch.nn.BatchNorm2d and ".edges." in name:
            module.__class__ = Other
            count += 1
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(network(x)[0], literal(other, x, alphas), rtol=1e-10, atol=1e-10)
    assert Other.calls == count > 0


@pytest.mark.parametrize("momentum", [None, 0.3, 1.0])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_a_weighted_norm_is_the_weight_times_the_norm(momentum, layout):
    torch.manual_seed(0)
    norm = torch.nn.BatchNorm2d(5, affine=False, momentum=momentum).double()
    other = copy.deepcopy(norm)
    weight = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    for _ in range(3):
        x = torch.randn(4, 5, 3, 2, dtype=torch.float64).contiguous(memory_format=layout)
        x.requires_grad_()
        found, wanted = weighted_norm(norm, x, weight), weight * other(x)
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
        cotangent = torch.randn_like(wanted)
        pairs = zip(
            torch.autograd.grad(found, (x, weight), cotangent),
            torch.autograd.grad(wanted, (x, weight), cotangent),
            strict=True,
        )
        for one, two in pairs:
            torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)
    for key, value in other.state_dict().items():
        torch.testing.assert_close(norm.state_dict()[key], value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", NETWORKS)
def test_low_precision_is_near_full_precision(literal, kind):
    network, other, alphas = build(kind)
    network.float()
    with torch.no_grad():
        x = torch.randn(4, 3, 8, 8)
        with torch.autocast("cpu", torch.bfloat16):
            found = network(x)[0]
        wanted = literal(other, x.double(), alphas)
    assert found.isfinite().all()
    assert (found.double() - wanted).norm() / wanted.norm() < 0.05


def test_the_alpha_of_none_has_a_share_and_a_gradient(literal):
    """Nothing is computed for it, yet raising it lowers the weights of the others."""
    network, _, alphas = build("darts")
    network.eval()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    out = network(x)[0]
    cotangent = torch.randn_like(out)
    (gradient,) = torch.autograd.grad(out, [alphas["normal"]], cotangent)
    assert (gradient[:, 0].abs() > 1e-8).all()
    # Edge by edge a common shift changes nothing.
    torch.testing.assert_close(gradient.sum(1), torch.zeros(14).double(), atol=1e-9, rtol=0)
    with torch.no_grad():
        for alpha in alphas.values():
            alpha[:, 0] = 60.0
        # All that is left are cells of zeros.
        assert network(x)[0].abs().max() < 1e-20


def test_sums_of_shared_terms_can_be_differentiated_twice():
    torch.manual_seed(0)
    weights = torch.rand(2, 3, dtype=torch.float64, requires_grad=True)
    terms = [torch.randn(2, 2, 3, 2, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    terms[0] = terms[0].detach().contiguous(memory_format=torch.channels_last).requires_grad_()

    def sums(weights, *terms):
        return weighted_sums(terms, weights)

    found = torch.stack(sums(weights, *terms))
    torch.testing.assert_close(found, torch.einsum("nm,m...->n...", weights, torch.stack(terms)))
    assert torch.autograd.gradcheck(sums, (weights, *terms))
    assert torch.autograd.gradgradcheck(sums, (weights, *terms))


@pytest.mark.slow
@pytest.mark.parametrize("space", SPACES)
def test_checkpointed_cells_take_the_same_step(space):
    """Activations computed again give the same gradients and count no batch twice."""
    states = []
    for names in ((), ("backbone.cells.0", "backbone.cells.2.edges.1")):
        model = small(space, activation_checkpointing=names)
        model.train_step(batches(), tiny.wrap(model))
        states.append(model.state_dict())
    for key, value in states[0].items():
        torch.testing.assert_close(states[1][key], value, rtol=1e-9, atol=1e-9, msg=key)
