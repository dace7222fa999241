"""Running code in float64 that asks for float32 by name."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


@contextmanager
def in_float64() -> Iterator[None]:
    """Within the context everything that would be of float32 is of float64.

    Networks ask for float32 where half precision would not do: ``x.float()``, ``softmax(x, dtype=torch.float32)``,
    positions made of ``torch.arange(n, dtype=torch.float32)``. In float64 this would cost a comparison nine of its
    sixteen digits, or stop it: a convolution does not take maps of another type than its weights.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Float64():
            yield
    finally:
        torch.set_default_dtype(before)


class _Float64(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        args = tuple(_wider(each) for each in args)
        kwargs = {key: _wider(each) for key, each in (kwargs or {}).items()}
        return (Tensor.double if func is Tensor.float else func)(*args, **kwargs)


def _wider(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value
