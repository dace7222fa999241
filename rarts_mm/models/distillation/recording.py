"""Looking at what a forward pass computes, while it does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass
class Call:
    """One call of a recorded method: its arguments and what it returned."""

    args: tuple
    kwargs: dict
    result: Any


@contextmanager
def recorded(owner: nn.Module, method: str) -> Iterator[list[Call]]:
    """Record the calls of ``owner.method`` while the block runs.

    The student's loss needs its own forward pass, so that its logits and features are taken out of
    that one instead of being computed twice.

    Args:
        owner: a module; only this object is watched, and is as before when the block ends.
        method: for ``'forward'``, calls of the module itself count.

    Yields:
        The calls so far, in their order.
    """
    inner: Callable = getattr(owner, method)
    before = vars(owner).get(method)
    calls: list[Call] = []

    def outer(*args, **kwargs):
        result = inner(*args, **kwargs)
        calls.append(Call(args, kwargs, result))
        return result

    setattr(owner, method, outer)
    try:
        yield calls
    finally:
        # Some modules have a method of their own already, such as a checkpointed forward.
        if before is None:
            delattr(owner, method)
        else:
            setattr(owner, method, before)
