"""A second classifier in the middle of a network, for training only (Szegedy et al., CVPR 2015)."""

from mmpretrain.models.heads import LinearClsHead
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from rarts_mm.registry import MODELS

WIDTHS = (128, 768)
WINDOW = 5


class AuxiliaryTower(nn.Sequential):
    """From a map in the middle of the network to the auxiliary classifier's features.

    (N, inputs, H, W) -> (N, 768, H', W'): ReLU, 5 x 5 average pooling, convolutions to 128 and 768
    channels. Maps of 8 x 8 (stride 3) and 7 x 7 (stride 2) leave one pixel.

    Args:
        inputs: channels of the map.
        stride: of the pooling.
        last_norm: whether a batch norm follows the second convolution.
    """

    def __init__(self, inputs: int, stride: int, last_norm: bool) -> None:
        narrow, wide = WIDTHS
        super().__init__(
            nn.ReLU(),
            nn.AvgPool2d(WINDOW, stride, count_include_pad=False),
            nn.Conv2d(inputs, narrow, 1, bias=False),
            nn.BatchNorm2d(narrow),
            nn.ReLU(),
            nn.Conv2d(narrow, wide, 2, bias=False),
            *([nn.BatchNorm2d(wide)] if last_norm else []),
            nn.ReLU(),
        )
        self.smallest = WINDOW + stride
        """Pixels a side that the pooling needs, to leave the 2 x 2 that the last convolution reads."""


@MODELS.register_module()
class AuxiliaryClsHead(LinearClsHead):
    """MMPretrain's linear head, and in training a second one on the network's auxiliary features.

    Behind :class:`~rarts_mm.cells.retraining.DARTSNetwork` with ``auxiliary=True`` and
    ``GlobalAveragePooling``, training sees the features (auxiliary, final), evaluation (final,): there
    it is a ``LinearClsHead``, whose checkpoints have the same names for its layer.

    Args:
        num_classes, in_channels, and others: as in ``LinearClsHead``.
        auxiliary_channels: number of auxiliary features.
        auxiliary_weight: of the auxiliary loss (0.4 in DARTS), which is logged, weighted, as
            ``loss_auxiliary_head``.

    Raises:
        ValueError: by ``loss`` in training, where the backbone has no auxiliary features.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        auxiliary_channels: int = WIDTHS[-1],
        auxiliary_weight: float = 0.4,
        **kwargs,
    ) -> None:
        super().__init__(num_classes, in_channels, **kwargs)
        self.fc_auxiliary = nn.Linear(auxiliary_channels, num_classes)
        self.auxiliary_weight = auxiliary_weight

    def loss(self, feats: tuple[Tensor, ...], data_samples: list[DataSample], **kwargs) -> dict:
        """Losses of (N, auxiliary_channels) and (N, in_channels); of the last alone in evaluation."""
        losses = super().loss(feats, data_samples, **kwargs)
        if not self.training:
            return losses
        if len(feats) < 2:
            raise ValueError(
                "AuxiliaryClsHead: the backbone gives no auxiliary features; set "
                "backbone.auxiliary=True, or take head.type='LinearClsHead'"
            )
        auxiliary = self._get_loss(self.fc_auxiliary(feats[0]), data_samples, **kwargs)
        losses["loss_auxiliary_head"] = self.auxiliary_weight * auxiliary["loss"]
        return losses
