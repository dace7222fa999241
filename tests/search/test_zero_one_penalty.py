"""Fair DARTS' zero-one loss against difference quotients and known values."""

import pytest
import torch

from rarts_mm.registry import PENALTIES
from rarts_mm.search.penalties import ZeroOnePenalty
from tests import tiny
from tests.cells.searches import batches, small


def alphas(*shapes):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]


def test_value():
    penalty = ZeroOnePenalty(gamma=3.0)
    assert penalty.value([torch.zeros(4, 2)]).item() == 0
    assert penalty.value([torch.tensor([[40.0, -40.0]])]).item() == pytest.approx(-3 / 4)
    # sigmoid(log 3) = 3/4, over three entries in two tensors.
    mixed = [torch.tensor([[3.0]]).log(), torch.zeros(1, 2)]
    assert penalty.value(mixed).item() == pytest.approx(-3 * (1 / 16) / 3)


@pytest.mark.parametrize("factor", [1.0, 0.25])
def test_gradient_is_that_of_difference_quotients(factor):
    penalty = PENALTIES.build(dict(type="ZeroOnePenalty", gamma=2.0))
    params = alphas((3, 4), (2, 4))
    for p in params:
        p.grad = torch.ones_like(p)
    penalty.add_gradient_(params, factor)
    residuals = [torch.ones_like(p) for p in params]
    penalty.residual_(residuals, params, factor)
    for p, residual in zip(params, residuals, strict=True):
        assert torch.equal(p.grad, residual)
        for i in range(p.numel()):
            values = []
            for sign in (1, -1):
                p.view(-1)[i] += sign * 1e-5
                values.append(penalty.value(params).item())
                p.view(-1)[i] -= sign * 1e-5
            quotient = (values[0] - values[1]) / 2e-5
            assert p.grad.view(-1)[i].item() - 1 == pytest.approx(factor * quotient, abs=1e-9)


def test_a_step_leads_away_from_one_half():
    (alpha,) = alphas((5, 3))
    start = alpha.clone()
    alpha.grad = torch.zeros_like(alpha)
    ZeroOnePenalty().add_gradient_([alpha])
    assert (((alpha - alpha.grad).sigmoid() - 0.5).abs() > (start.sigmoid() - 0.5).abs()).all()


def test_it_is_part_of_a_search_with_sigmoids_and_of_no_other():
    model = small("NATSSpace", space=dict(relaxation=dict(type="Sigmoid")))
    before = [a.detach().clone() for a in model.alpha_parameters().values()]
    wanted = -10 * torch.cat([(a.sigmoid() - 0.5).square() for a in before]).mean()
    wrapper = tiny.wrap(model, penalty=dict(type="ZeroOnePenalty"))
    log = model.train_step(batches(), wrapper)
    assert float(log["penalty"]) == pytest.approx(wanted.item())
    with pytest.raises(ValueError, match="relaxation=dict\\(type='Sigmoid'\\)"):
        tiny.wrap(small("NATSSpace"), penalty=dict(type="ZeroOnePenalty"))
