"""Running a network with labels, as it is or with channels at zero."""

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..running import Forward, call, tensors_in
from .groups import Groups
from .rules import READING, RULES, fallback
from .tracing import FlowError, Tracer


def watch(
    tracer: Tracer,
    network: nn.Module,
    inputs: Any,
    forward: Forward | None,
    freeze: bool = True,
) -> Any:
    """Run a network under a tracer; returns what it puts out.

    Args:
        freeze: whether what it puts out stays.

    Raises:
        FlowError: it does not run.
    """
    try:
        with tracer.running():
            outputs = (forward or call)(network, inputs)
    except Exception as error:
        at = f" in {tracer.failed_in}" if tracer.failed_in else ""
        raise FlowError(
            f"The {type(network).__name__} does not run on the example{at} "
            f"({type(error).__name__}: {error}); give one that it accepts."
        ) from error
    if freeze:
        for output in tensors_in(outputs):
            for layer in tracer.layers(output):
                tracer.atoms.freeze(layer, "the network puts it out")
    return outputs


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
    tracer = Tracer(
        network,
        RULES,
        fallback,
        copy.deepcopy(groups.atoms),
        dict(groups.places),
        groups.removed(kept),
        READING,
    )
    return tensors_in(watch(tracer, network, inputs, forward, freeze=False))
