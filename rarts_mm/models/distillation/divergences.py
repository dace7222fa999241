"""How far a student's class probabilities are from its teacher's."""

import torch
import torch.nn.functional as F
from torch import Tensor


def softmax_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL(softmax(teacher / T) || softmax(student / T)), averaged over the samples (thesis, 4.2.1).

    Args:
        student: (samples, classes) logits.
        teacher: the same of the teacher; no gradient flows into them.
        temperature: T.

    Returns:
        A scalar in at least single precision; zero where there are no samples.
    """
    p, q = (_precise(x).div(temperature).log_softmax(-1) for x in (teacher.detach(), student))
    return F.kl_div(q, p, reduction="sum", log_target=True) / max(len(student), 1)


def binary_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """The same for classes that each have a sigmoid: the sum of their binary divergences.

    Args:
        student: (samples, classes) logits.
        teacher: the same of the teacher; no gradient flows into them.
        temperature: T.

    Returns:
        KL(Bernoulli(sigmoid(teacher / T)) || Bernoulli(sigmoid(student / T))), summed over the
        classes and averaged over the samples: a scalar as of :func:`softmax_divergence`.
    """
    teacher, student = (_precise(x) / temperature for x in (teacher.detach(), student))
    total = student.new_zeros(())
    # log(1 - sigmoid(x)) = logsigmoid(-x), exact also where 1 - sigmoid(x) is rounded to zero.
    for sign in (1, -1):
        p, q = F.logsigmoid(sign * teacher), F.logsigmoid(sign * student)
        total = total + F.kl_div(q, p, reduction="sum", log_target=True)
    return total / max(len(student), 1)


def _precise(x: Tensor) -> Tensor:
    """Half precision has too few digits for the logarithm of a small probability."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
