"""Running statistics of batch normalisation during passes that only serve alpha."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Within this context batch norms normalise as before but update no running statistics.

    Layers in training mode go on normalising by the batch, those in evaluation mode by their running
    statistics; neither ``running_mean``, ``running_var`` nor ``num_batches_tracked`` changes.
    """
    # torch reads running statistics in evaluation mode whatever the flag says, so that only layers in
    # training mode change their ways.
    layers = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True
