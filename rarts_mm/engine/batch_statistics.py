"""Running statistics of batch norms, computed anew with the weights at rest."""

import logging
from collections.abc import Iterable, Iterator

from mmpretrain.engine.hooks.precise_bn_hook import update_bn_stats
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def training_norms(network: nn.Module) -> list[_BatchNorm]:
    """The batch norms whose statistics are those of the batch now: no frozen ones."""
    return [m for m in network.modules() if isinstance(m, _BatchNorm) and m.training]


def update_statistics(
    network: nn.Module, loader: Iterable, number: int, processes: int, logger: logging.Logger
) -> int:
    """Set running means and variances to their means over batches (MMPretrain's ``update_bn_stats``).

    Of Wu and Johnson, Rethinking "Batch" in BatchNorm, section 3. Only norms in training mode count.

    Args:
        network: with a ``data_preprocessor``; changed in place.
        loader: of the training data.
        number: of images, all processes together; at most the data set's, at least a batch's.
        processes: number of processes that share the data.

    Returns:
        The number of images used.
    """
    # No image counts twice where a loader starts again.
    size = _batch_size(loader) * processes
    number = max(min(number, len(loader.dataset)), size)
    update_bn_stats(network, _Sized(loader), number, logger=logger)
    return min(number // size, len(loader)) * size


def _batch_size(loader) -> int:
    return loader.batch_size or loader.batch_sampler.batch_size


class _Sized:
    """A loader that knows its batch size also where a batch sampler makes the batches."""

    def __init__(self, loader) -> None:
        self.loader = loader
        self.batch_size = _batch_size(loader)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator:
        return iter(self.loader)
