"""Running statistics of batch normalisation during passes that must not count."""

from torch import Tensor, nn

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


class frozen_statistics:
    """Within this context batch norms compute as before, but their running statistics stay.

    Layers in training mode go on normalising by the batch, those in evaluation mode by their running
    statistics; neither ``running_mean``, ``running_var`` nor ``num_batches_tracked`` changes. It can be
    entered again, as activation checkpointing does when a graph is differentiated twice.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._entered: list[list[tuple[nn.Module, dict[str, Tensor]]]] = []

    def __enter__(self) -> None:
        # Copies take the updates: the same operations on the same number of tensors as otherwise, which
        # activation checkpointing insists on.
        kept = []
        for layer in self.network.modules():
            # By their buffers: the libraries have batch norms that are not torch's (mmcv's MMSyncBN).
            buffers = {name: layer._buffers.get(name) for name in _BUFFERS}
            if layer.training and all(buffer is not None for buffer in buffers.values()):
                kept.append((layer, buffers))
        for layer, buffers in kept:
            for name, buffer in buffers.items():
                setattr(layer, name, buffer.clone())
        self._entered.append(kept)

    def __exit__(self, *error: object) -> None:
        for layer, buffers in self._entered.pop():
            for name, buffer in buffers.items():
                setattr(layer, name, buffer)
