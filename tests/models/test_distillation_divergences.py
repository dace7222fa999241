"""The divergences against closed forms, in float64."""

import math

import pytest
import torch
import torch.nn.functional as F

from rarts_mm.models.distillation import binary_divergence, softmax_divergence


@pytest.fixture
def logits():
    torch.manual_seed(0)
    return 5 * torch.randn(7, 11, dtype=torch.float64), 5 * torch.randn(7, 11, dtype=torch.float64)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 0.5])
def test_softmax_divergence_is_the_thesis_formula(logits, temperature):
    student, teacher = logits
    p, q = (torch.exp(x / temperature) for x in (teacher, student))
    p, q = p / p.sum(1, keepdim=True), q / q.sum(1, keepdim=True)
    expected = (p * torch.log(p / q)).sum(1).mean()
    torch.testing.assert_close(
        softmax_divergence(student, teacher, temperature), expected, rtol=1e-12, atol=0
    )
    torch_own = F.kl_div(
        F.log_softmax(student / temperature, 1),
        F.softmax(teacher / temperature, 1),
        reduction="batchmean",
    )
    torch.testing.assert_close(expected, torch_own, rtol=1e-12, atol=0)


def test_two_classes_by_hand():
    # T = 4: softmax(teacher / T) = (2/3, 1/3), softmax(student / T) = (1/2, 1/2).
    teacher = torch.tensor([[4 * math.log(2.0), 0.0]], dtype=torch.float64)
    student = torch.tensor([[1.0, 1.0]], dtype=torch.float64)
    expected = 2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)
    assert softmax_divergence(student, teacher, 4.0).item() == pytest.approx(expected, rel=1e-14)


def test_gradient_of_softmax_divergence(logits):
    student, teacher = logits
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(softmax_divergence(student, teacher, 4.0), student)
    # d KL / d logits = (q - p) / (T N).
    expected = ((student / 4).softmax(1) - (teacher / 4).softmax(1)) / (4 * len(student))
    torch.testing.assert_close(gradient, expected.detach(), rtol=1e-12, atol=1e-16)


def test_no_gradient_flows_into_the_teacher(logits):
    student, teacher = logits
    teacher.requires_grad_()
    student.requires_grad_()
    for divergence in (softmax_divergence, binary_divergence):
        found = torch.autograd.grad(
            divergence(student, teacher, 2.0), (student, teacher), allow_unused=True
        )
        assert found[0].abs().sum() > 0
        assert found[1] is None


def test_binary_divergence_is_that_of_bernoulli_variables(logits):
    student, teacher = logits
    dist = [torch.distributions.Bernoulli(logits=x / 3) for x in (teacher, student)]
    expected = torch.distributions.kl_divergence(*dist).sum(1).mean()
    torch.testing.assert_close(
        binary_divergence(student, teacher, 3.0), expected, rtol=1e-12, atol=0
    )


def test_binary_divergence_of_large_logits_is_finite():
    student = torch.tensor([[90.0, -90.0]], requires_grad=True)
    teacher = torch.tensor([[-90.0, 90.0]])
    loss = binary_divergence(student, teacher, 1.0)
    loss.backward()
    assert loss.item() == pytest.approx(180, rel=1e-6)
    assert student.grad.tolist() == [[1.0, -1.0]]


def test_equal_logits_give_zero(logits):
    student = logits[0].requires_grad_()
    for divergence in (softmax_divergence, binary_divergence):
        loss = divergence(student, student.detach(), 4.0)
        (gradient,) = torch.autograd.grad(loss, student)
        assert loss.item() == 0
        assert gradient.abs().max() < 1e-16


def test_no_samples_give_zero():
    empty = torch.zeros(0, 5, requires_grad=True)
    for divergence in (softmax_divergence, binary_divergence):
        loss = divergence(empty, torch.zeros(0, 5), 4.0)
        loss.backward()
        assert loss.item() == 0


def test_half_precision_is_computed_in_single(logits):
    student, teacher = (x.to(torch.bfloat16) for x in logits)
    loss = softmax_divergence(student, teacher, 4.0)
    assert loss.dtype == torch.float32
    expected = softmax_divergence(student.double(), teacher.double(), 4.0)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
