"""What each kind of operation does to labels.

A rule is a function of a :class:`~rarts_mm.widths.flow.tracing.Call`: it looks at the layers of the
arguments, unites or freezes atoms, and labels what came out. ``RULES`` says which rule an operation of
``aten`` (or ``library::operation``) has; an operation that torch itself tags as element by element needs
no entry. What has no rule freezes all that it touches.
"""

import torch

from ..tracing import Call, Rule
from . import contraction, convolution, elementwise, movement, norms, reductions, spatial, splitting

RULES: dict[str, Rule] = {
    **elementwise.RULES,
    **movement.RULES,
    **splitting.RULES,
    **spatial.RULES,
    **convolution.RULES,
    **contraction.RULES,
    **norms.RULES,
    **reductions.RULES,
}

# Arguments over which an operation sums or normalises: where a removed channel has to be zero.
READING: dict[str, tuple[str, ...]] = {
    **convolution.READING,
    **contraction.READING,
    **norms.READING,
    **reductions.READING,
}


def fallback(call: Call) -> None:
    """The rule of an operation without one."""
    if _is_pointwise(call):
        elementwise.elementwise(call)
        return
    for tensor in call.tensors:
        call.freeze(call.layers(tensor), f"there is no rule for the operation {call.name}")


def _is_pointwise(call: Call) -> bool:
    """Whether torch says so of the operation; of in-place variants it does not always."""
    packet = getattr(torch.ops.aten, call.name, None)
    variants = [] if packet is None else [getattr(packet, name) for name in packet.overloads()]
    return any(torch.Tag.pointwise in func.tags for func in (call.func, *variants))
