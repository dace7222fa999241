"""The layers of pruned networks: they compute what torch's do, and insist on weights of their width."""

from mmengine.model.utils import _BatchNormXd
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .sliced_linear import SlicedLinear
from .strict_loading import StrictWidths


# torch's classes stand among the bases by name, as MMEngine's initialisers look there.
class SlicedConv2d(StrictWidths, nn.Conv2d):
    """A convolution of a pruned network."""


class SlicedConvTranspose2d(StrictWidths, nn.ConvTranspose2d):
    """A transposed convolution of a pruned network."""


class SlicedBatchNorm2d(StrictWidths, nn.BatchNorm2d, _BatchNorm):
    """A batch norm of a pruned network."""


class SlicedSyncBatchNorm(StrictWidths, nn.SyncBatchNorm, _BatchNorm):
    """A synchronised batch norm of a pruned network."""


class SlicedBatchNormXd(StrictWidths, _BatchNormXd, _BatchNorm):
    """A batch norm of a pruned network, of the kind that MMEngine's Runner makes of SyncBN."""


# In this order: the first class that a layer is of counts.
SLICED = {
    nn.Linear: SlicedLinear,
    nn.Conv2d: SlicedConv2d,
    nn.ConvTranspose2d: SlicedConvTranspose2d,
    nn.SyncBatchNorm: SlicedSyncBatchNorm,
    nn.BatchNorm2d: SlicedBatchNorm2d,
    _BatchNormXd: SlicedBatchNormXd,
}
