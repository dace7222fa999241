"""Running a network with labels, as it is or with channels at zero."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ..exactly import in_float64
from ..running import Forward, call, copied_around
from .groups import Groups
from .rules import READING, RULES, fallback
from .tracing import FlowError, Tracer


def outputs_in(outputs: Any, seen: frozenset[int] = frozenset()) -> list[Tensor]:
    """All tensors in what a network returns, whatever they are wrapped in."""
    if isinstance(outputs, Tensor):
        return [outputs]
    if id(outputs) in seen:
        # What refers to itself.
        return []
    seen |= {id(outputs)}
    if isinstance(outputs, Mapping):
        outputs = outputs.values()
    elif hasattr(outputs, "__dict__") and not isinstance(outputs, nn.Module | type):
        # Dataclasses, namespaces, samples; of containers that are one, too, what they contain.
        inside = list(outputs) if isinstance(outputs, Iterable) else []
        outputs = [*vars(outputs).values(), *inside]
    elif isinstance(outputs, str | bytes) or not isinstance(outputs, Iterable):
        return []
    return [tensor for output in outputs for tensor in outputs_in(output, seen)]


def compute(network: nn.Module, inputs: Any, forward: Forward | None) -> Any:
    """Run a network of float64 on a copy of an example, as some work in place."""

    def copied(value: Any) -> Any:
        return value.detach().clone() if isinstance(value, Tensor) else value

    with in_float64():
        return (forward or call)(network, tree_map(copied, inputs))


def watch(
    tracer: Tracer,
    network: nn.Module,
    inputs: Any,
    forward: Forward | None,
    freeze: bool = True,
) -> list[Tensor]:
    """Run a network under a tracer; returns the tensors that it puts out.

    Args:
        freeze: whether what it puts out stays.

    Raises:
        FlowError: it does not run, or puts out nothing that could be compared.
    """
    try:
        with tracer.running():
            outputs = compute(network, inputs, forward)
    # What runs here is the user's own code.
    except Exception as error:
        at = f" in {tracer.failed_in}" if tracer.failed_in else ""
        raise FlowError(
            f"The {type(network).__name__} does not run on the example{at} "
            f"({type(error).__name__}: {error}); give one that it accepts. It is run in float64, in "
            "evaluation mode."
        ) from error
    found = outputs_in(outputs)
    if not any(each.is_floating_point() for each in found):
        raise FlowError(
            f"The {type(network).__name__} puts out no floating point tensor ({type(outputs).__name__}), so "
            "there is nothing to compare; give forward=..., which returns what the network computes."
        )
    if freeze:
        for output in found:
            for layer in tracer.layers(output):
                tracer.atoms.freeze(layer, "the network puts it out")
    return found


def masked_outputs(
    network: nn.Module,
    groups: Groups,
    kept: Mapping[str, Tensor],
    inputs: Any,
    forward: Forward | None = None,
) -> list[Tensor]:
    """What the network puts out if the channels that are not kept are zero wherever they are read.

    Nothing in it is changed or replaced: zeros are put into the operations themselves.

    Args:
        network: the network, in float64 and evaluation mode.
        groups: what :func:`find_groups` found in it.
        kept: group -> sorted indices of the channels to keep; others stay whole.
        inputs, forward: as for :func:`find_groups`.
    """
    # Some change their own buffers as they run.
    network = copied_around(network)
    tracer = Tracer(
        network,
        RULES,
        fallback,
        copy.deepcopy(groups.atoms),
        dict(groups.places),
        groups.removed(kept),
        READING,
        groups.whole_heads,
    )
    return watch(tracer, network, inputs, forward, freeze=False)
