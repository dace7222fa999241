"""Whether every architecture parameter gets gradients from the losses."""

from collections.abc import Sequence
from logging import WARNING

from mmengine.logging import print_log
from torch import Tensor

# In so many of alpha's first sub-steps a block that is skipped at random must have been there once.
PATIENCE = 100
# What stands in the graph for a segment of reentrant activation checkpointing.
_REENTRANT = "CheckpointFunctionBackward"
_CAUSES = (
    "Either a scored layer takes no part in the loss, or activation checkpointing of the reentrant "
    "kind is on, which drops alpha's gradients in silence: name the modules in "
    "model.activation_checkpointing instead."
)


class AlphaGradients:
    """Sees to it that no alpha is left without gradients by mistake.

    A step's losses need not depend on every alpha: a network may skip a block at random. That is told
    from a fault by waiting: an alpha that the first step leaves out must get a gradient in one of the
    next. There is no waiting where it cannot come: nothing gets one, or reentrant checkpointing is on.

    Attributes:
        begun: whether a sub-step of alpha, or a probe of one, has been looked at.
    """

    def __init__(self) -> None:
        self.begun = False
        self._waiting: set[int] = set()
        self._steps = 0
        self._reentrant = False

    def look_at(self, loss: Tensor) -> None:
        """See a loss of the first step with its graph, before its backward pass."""
        if not self.begun:
            self._reentrant = self._reentrant or _has_node(loss, _REENTRANT)

    def check(self, params: Sequence[Tensor]) -> None:
        """See alpha with the gradients of a sub-step's losses.

        Raises:
            RuntimeError: some get none by mistake.
        """
        if self.begun and not self._waiting:
            return
        missing = {i for i, p in enumerate(params) if p.grad is None}
        self._waiting = self._waiting & missing if self.begun else missing
        self._steps += 1
        if not self._waiting:
            self.begun = True
            return
        what = (
            f"{len(self._waiting)} of {len(params)} architecture parameters (numbers "
            f"{sorted(self._waiting)[:5]}) got no gradient in the first "
        )
        if not self.begun and (self._reentrant or len(missing) == len(params)):
            raise RuntimeError(f"{what}step. {_CAUSES}")
        if self._steps == PATIENCE:
            raise RuntimeError(f"{what}{PATIENCE} steps of alpha. {_CAUSES}")
        if not self.begun:
            print_log(
                f"{what}step. Where blocks are skipped at random that is as it should be; an alpha that "
                f"gets none in {PATIENCE} steps ends the search.",
                logger="current",
                level=WARNING,
            )
        self.begun = True


def _has_node(loss: Tensor, name: str) -> bool:
    stack = [loss.grad_fn] if loss.grad_fn is not None else []
    seen = set(stack)
    while stack:
        node = stack.pop()
        if node.name() == name:
            return True
        for below, _ in node.next_functions:
            if below is not None and below not in seen:
                seen.add(below)
                stack.append(below)
    return False
