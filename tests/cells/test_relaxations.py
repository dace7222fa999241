"""Relaxations: the two that are there, and room for others."""

import pytest
import torch
from mmengine.registry import init_default_scope
from torch.nn import functional as F

from rarts_mm.cells import Relaxation, Sigmoid, Softmax
from rarts_mm.registry import RELAXATIONS
from tests import tiny
from tests.cells.searches import SPACES, batches, config, loader, small

SOFTMAX, SIGMOID = dict(type="Softmax"), dict(type="Sigmoid")


def test_the_two_formulas():
    alpha = torch.tensor([[0.0, 1.0, -1.0], [2.0, 2.0, 2.0]], dtype=torch.float64)
    exponents = alpha.exp()
    torch.testing.assert_close(Softmax().weights(alpha), exponents / exponents.sum(1, True))
    torch.testing.assert_close(Sigmoid().weights(alpha), 1 / (1 + (-alpha).exp()))
    for relaxation in (Softmax(), Sigmoid()):
        assert torch.equal(relaxation.scores(alpha), relaxation.weights(alpha))


@pytest.mark.parametrize("relaxation", [SOFTMAX, SIGMOID], ids=["softmax", "sigmoid"])
@pytest.mark.parametrize("space", SPACES)
def test_alphas_gradient_is_that_of_difference_quotients(space, relaxation):
    """Along random directions, which have a share of every entry, in float64."""
    model = small(space, space=dict(relaxation=relaxation))
    network = model.auxiliary.backbone
    assert type(network.relaxation) is RELAXATIONS.get(relaxation["type"])
    assert model.primary.backbone.relaxation is network.relaxation
    images = torch.stack(tiny.batch(size=8)["inputs"]).double() / 255
    cotangent = torch.randn_like(network(images)[0])
    alphas = list(model.alpha_parameters().values())
    gradients = torch.autograd.grad((network(images)[0] * cotangent).sum(), alphas)
    for alpha, gradient in zip(alphas, gradients, strict=True):
        everywhere, at_none = torch.randn_like(alpha), torch.zeros_like(alpha)
        at_none[:, 0] = torch.randn(len(alpha))
        for direction in (everywhere, at_none):
            values = []
            for step in (1e-5, -1e-5):
                with torch.no_grad():
                    alpha += step * direction
                    values.append((network(images)[0] * cotangent).sum().item())
                    alpha -= step * direction
            quotient = (values[0] - values[1]) / 2e-5
            wanted = (gradient * direction).sum().item()
            assert quotient == pytest.approx(wanted, rel=1e-5, abs=1e-6)
        # Under sigmoids "none" competes with nobody.
        assert gradient[:, 0].any() == (relaxation is SOFTMAX)


class Gumbel(Relaxation):
    """A softmax of alpha with Gumbel noise, at a temperature that falls to a tenth."""

    def __init__(self, start: float = 5.0) -> None:
        self.start = self.temperature = start
        self.draws = 0

    def set_progress(self, done: float) -> None:
        self.temperature = self.start * 0.1**done

    def weights(self, alpha):
        self.draws += 1
        return F.gumbel_softmax(alpha, self.temperature)

    def scores(self, alpha):
        return alpha.softmax(-1)


class Partial(Softmax):
    """One quarter of the channels goes through the operations, the rest past them (PC-DARTS)."""

    def width(self, channels):
        return channels // 4

    def enter(self, x):
        return x[:, : self.width(x.shape[1])]

    def leave(self, x, mixed, stride):
        rest = x[:, mixed.shape[1] :]
        if stride == 2:
            rest = F.max_pool2d(rest, 2, ceil_mode=True)
        return F.channel_shuffle(torch.cat([mixed, rest], dim=1), 4)


@pytest.fixture
def others():
    for kind in (Gumbel, Partial):
        RELAXATIONS.register_module(module=kind)
    yield
    for kind in (Gumbel, Partial):
        RELAXATIONS.module_dict.pop(kind.__name__)


@pytest.mark.parametrize("space", SPACES)
def test_a_relaxation_may_draw_at_random(space, others):
    model = small(space, space=dict(relaxation=dict(type="Gumbel", start=3.0)))
    relaxation = model.space.relaxation
    network, kinds = model.auxiliary.backbone, len(model.alpha_parameters())
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    one, two = network(x)[0], network(x)[0]
    assert relaxation.draws == 2 * kinds, "one draw for each kind of cell and pass"
    assert not torch.allclose(one, two)
    before = [alpha.detach().clone() for alpha in model.alpha_parameters().values()]
    model.train_step(batches(), tiny.wrap(model))
    for old, alpha in zip(before, model.alpha_parameters().values(), strict=True):
        assert (old != alpha).all()


def test_a_relaxation_may_change_with_time(others, tmp_path):
    """The loop tells how far the search is, before each of four epochs."""
    init_default_scope("mmpretrain")
    cfg = config("NATSSpace", space=dict(relaxation=dict(type="Gumbel", start=3.0)))
    runner = tiny.runner(tmp_path, epochs=4, model=cfg, data=loader(4))
    runner.train()
    relaxation = runner.model.space.relaxation
    assert relaxation.temperature == pytest.approx(3 * 0.1**0.75)
    assert runner.model.primary.backbone.relaxation is relaxation


@pytest.mark.parametrize("space", SPACES)
def test_a_relaxation_may_have_a_say_in_how_an_edge_mixes(space, others):
    model = small(space, space=dict(relaxation=dict(type="Partial")))
    whole = small(space)
    for network in (model.auxiliary, model.primary):
        convolution = network.backbone.cells[0].edges[0].operations[-2][1]
        assert convolution.in_channels == 1
        assert sum(p.numel() for p in network.parameters()) < sum(
            p.numel() for p in whole.auxiliary.parameters()
        )
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    assert model.auxiliary.backbone(x)[0].shape == whole.auxiliary.backbone(x)[0].shape
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.train_step(batches(), tiny.wrap(model))
    moved = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert {f"alpha.{name}" for name in model.alpha_parameters()} < moved
    assert all(n in moved for n, _ in model.named_parameters())


def test_an_edge_that_mixes_a_part_is_the_literal_one(others):
    """One edge of the partial relaxation, written out."""
    model = small("CellSpace", space=dict(relaxation=dict(type="Partial")))
    cell, relaxation = model.auxiliary.backbone.cells[0], model.space.relaxation
    inputs = []
    cell.fit_before.register_forward_hook(lambda *args: inputs.append(args[2]))
    cell.fit_last.register_forward_hook(lambda *args: inputs.append(args[2]))
    x = torch.randn(2, 12, 6, 6, dtype=torch.float64)
    weights = torch.rand(14, 8, dtype=torch.float64)
    found = cell(x, x, weights, relaxation)[:, :4]
    wanted = 0
    for edge, row, state in zip(cell.edges[:2], weights[:2], inputs, strict=True):
        mixed = sum(
            w * op(state[:, :1].contiguous()) for w, op in zip(row, edge.operations, strict=True)
        )
        wanted = wanted + F.channel_shuffle(torch.cat([mixed, state[:, 1:]], 1), 4)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("space", SPACES)
def test_an_unknown_relaxation_is_an_error(space):
    with pytest.raises(KeyError, match="Softmin"):
        small(space, space=dict(relaxation=dict(type="Softmin")))
