"""Example inputs, as people have them."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from rarts_mm.widths.running import Forward, call, call_with_several


def calling(inputs: Any, forward: Forward | None = None) -> Forward:
    """How a network is run on an example: a tuple or list has its arguments, a dict those with names."""
    if forward is not None:
        return forward
    if isinstance(inputs, Mapping):
        return _with_names
    return call_with_several if isinstance(inputs, tuple | list) else call


def _with_names(network: nn.Module, inputs: Mapping[str, Any]) -> Any:
    return network(**inputs)
