"""Running statistics of batch normalisation during passes that must not count."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


@contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Within this context batch norms compute as before, but their running statistics stay.

    Layers in training mode go on normalising by the batch, those in evaluation mode by their running
    statistics; neither ``running_mean``, ``running_var`` nor ``num_batches_tracked`` changes.
    """
    # Copies take the updates: the same operations on the same number of tensors as otherwise, which
    # activation checkpointing insists on.
    kept = []
    for layer in network.modules():
        # By their buffers: the libraries have batch norms that are not torch's (mmcv's MMSyncBN).
        buffers = {name: layer._buffers.get(name) for name in _BUFFERS}
        if layer.training and all(buffer is not None for buffer in buffers.values()):
            kept.append((layer, buffers))
    for layer, buffers in kept:
        for name, buffer in buffers.items():
            setattr(layer, name, buffer.clone())
    try:
        yield
    finally:
        for layer, buffers in kept:
            for name, buffer in buffers.items():
                setattr(layer, name, buffer)
