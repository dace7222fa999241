"""Whether a gradient can be differentiated again."""

from collections.abc import Iterable

from torch import Tensor

REMEDY = "use alternation=dict(type='DARTS2', derivative='finite-difference')"
# What stands in the graph where a Python function marked ``once_differentiable`` was differentiated.
_BARRIER = "torch::autograd::Error"


def check_twice_differentiable(gradients: Iterable[Tensor]) -> None:
    """Raise ``RuntimeError`` where part of the graph of these gradients ends at such a function.

    mmcv's operators are of this kind. ``torch.autograd.grad`` with given inputs does not complain:
    the barrier is connected to none of them, so that all that passes it is left out in silence.
    """
    stack = [g.grad_fn for g in gradients if g.grad_fn is not None]
    seen = set(stack)
    while stack:
        node = stack.pop()
        if node.name() == _BARRIER:
            raise RuntimeError(
                "the network cannot be differentiated twice: one of its layers is a function "
                f"marked once_differentiable (mmcv's RoIAlign is one); {REMEDY}"
            )
        for below, _ in node.next_functions:
            if below is not None and below not in seen:
                seen.add(below)
                stack.append(below)
