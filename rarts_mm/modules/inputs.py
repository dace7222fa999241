"""Example inputs, as people have them."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from rarts_mm.widths.running import Forward


def calling(inputs: Any, forward: Forward | None = None) -> Forward:
    """How a network is run on an example: a tuple or list has its arguments, a dict those with names."""
    if forward is not None:
        return forward
    if isinstance(inputs, Mapping):
        return _with_names
    return _with_several if isinstance(inputs, tuple | list) else _with_one


def _with_one(network: nn.Module, inputs: Any) -> Any:
    return network(inputs)


def _with_several(network: nn.Module, inputs: Any) -> Any:
    return network(*inputs)


def _with_names(network: nn.Module, inputs: Mapping[str, Any]) -> Any:
    return network(**inputs)
