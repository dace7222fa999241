"""The network that is trained after a topology search: a stem, and one derived cell after another."""

from collections.abc import Mapping
from typing import Any

from mmcv.cnn.bricks import DropPath
from mmengine.model import BaseModule
from torch import Tensor, nn

from rarts_mm.registry import MODELS

from ..genotype import Genotype
from .auxiliary import AuxiliaryTower
from .cell import Cell
from .stems import STEMS

REDUCTIONS = 2


@MODELS.register_module()
class DARTSNetwork(BaseModule):
    """A network of a genotype's cells, as a backbone of MMPretrain's ``ImageClassifier``.

    The cells at a third and at two thirds of the depth halve height and width and double the
    channels (Liu et al., ICLR 2019, sections 3.2 and 3.3). Sides that are odd are rounded up; the
    authors' code cannot halve them.

    .. code-block:: python

        model = dict(
            type='ImageClassifier',
            backbone=dict(type='rarts_mm.DARTSNetwork', genotype='DARTS_V2', drop_path_rate=0.2),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='rarts_mm.AuxiliaryClsHead', num_classes=10, in_channels=576))

    Args:
        genotype: whatever :meth:`Genotype.parse` takes: a published one's name, text, a dict.
        channels: C, the width of the first cells.
        layers: number of cells.
        in_channels: of the images.
        stem: ``'cifar'`` keeps the images' size; ``'imagenet'`` divides it by 8.
        drop_path_rate: at the end of the training; :class:`~rarts_mm.engine.DropPathScheduleHook`
            lets it rise to there. Without the hook it is this from the start.
        auxiliary: whether training also gives features for an auxiliary classifier, of the map
            behind the second reduction; :class:`AuxiliaryClsHead` classifies them.

    Attributes:
        genotype: the parsed one.
        out_channels: of the last map, the ``in_channels`` of the head.

    Raises:
        ValueError: for a genotype that cannot be read or a setting out of its range; by ``forward``
            for images that are too small, or a batch of one that batch norm cannot take.
    """

    def __init__(
        self,
        genotype: Genotype | str | Mapping[str, Any],
        channels: int = 36,
        layers: int = 20,
        in_channels: int = 3,
        stem: str = "cifar",
        drop_path_rate: float = 0.0,
        auxiliary: bool = True,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        _check(channels, layers, in_channels, stem, drop_path_rate)
        self.genotype = Genotype.parse(genotype)
        self.kind = STEMS[stem]
        self.stem = self.kind.build(in_channels, channels)
        before, last = self.stem.out_channels
        # The inputs of the first cell differ in size as if there had been a reduction between them.
        reduced = stem == "imagenet"
        self.tower_at = 2 * layers // 3
        self.cells = nn.ModuleList()
        for i in range(layers):
            reduces = i in (layers // 3, self.tower_at)
            channels = 2 * channels if reduces else channels
            cell = Cell(self.genotype, before, last, channels, reduces, reduced)
            self.cells.append(cell)
            before, last, reduced = last, cell.out_channels, reduces
        self.out_channels = last
        self.tower = None
        if auxiliary:
            self.tower = AuxiliaryTower(
                self.cells[self.tower_at].out_channels, self.kind.tower_stride, self.kind.tower_norm
            )
        self.drop_path_rate = drop_path_rate
        self.set_drop_path(drop_path_rate)

    def set_drop_path(self, rate: float) -> None:
        """Drop each edge but identities with this probability, for each sample, in training."""
        for module in self.cells.modules():
            if isinstance(module, DropPath):
                module.drop_prob = rate

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, in_channels, H, W) -> ((N, out_channels, H / 4, W / 4),), or / 32 for ImageNet's stem.

        In training with ``auxiliary``, ``((N, 768, h, w), (N, out_channels, H / 4, W / 4))``.
        """
        self.check_size(*x.shape[-2:], self.training)
        try:
            return self._features(x)
        except ValueError as error:
            # What torch raises where batch norm would divide by zero.
            if self.training and len(x) == 1:
                raise ValueError(
                    f"DARTSNetwork: a batch of one image of {x.shape[-2]} x {x.shape[-1]} in training "
                    f"leaves batch norm a single value per channel ({error}). Take a batch_size of at "
                    "least 2 (drop_last=True leaves out a last batch of one), larger images, or, if "
                    "the auxiliary tower is to blame, auxiliary=False"
                ) from error
            raise

    def _features(self, x: Tensor) -> tuple[Tensor, ...]:
        outputs = []
        before, last = self.stem(x)
        for i, cell in enumerate(self.cells):
            before, last = last, cell(before, last)
            if i == self.tower_at and self.tower is not None and self.training:
                outputs.append(self.tower(last))
        return (*outputs, last)

    def smallest_side(self, training: bool) -> int:
        """Pixels a side that images need; more in training with ``auxiliary``."""
        halvings = self.kind.halvings + REDUCTIONS
        # The last halving needs two pixels to make one of, and each before it rounds up.
        if self.tower is None or not training:
            return 2 ** (halvings - 1) + 1
        return (self.tower.smallest - 1) * 2**halvings + 1

    def check_size(self, height: int, width: int, training: bool) -> None:
        """Raise a ValueError if images of this size, in pixels, are too small."""
        needed = self.smallest_side(training)
        if min(height, width) >= needed:
            return
        reason = f"the {self.kind.halvings + REDUCTIONS} halvings of this network"
        if needed > self.smallest_side(False):
            reason = (
                "the auxiliary tower, which is there in training (auxiliary=False leaves it out)"
            )
        raise ValueError(
            f"DARTSNetwork: images of {height} x {width} are too small for {reason}: at least "
            f"{needed} x {needed} pixels; enlarge them in the data pipeline (Resize)"
        )


def _check(channels: int, layers: int, in_channels: int, stem: str, drop_path_rate: float) -> None:
    for name, value, least in (
        ("channels", channels, 2),
        ("layers", layers, 3),
        ("in_channels", in_channels, 1),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(
                f"DARTSNetwork: {name}={value!r} must be a whole number of at least {least}"
                + (", two of which reduce" if name == "layers" else "")
            )
    if stem not in STEMS:
        raise ValueError(f"DARTSNetwork: unknown stem {stem!r}; choose from {list(STEMS)}")
    if not 0 <= drop_path_rate < 1:
        raise ValueError(
            f"DARTSNetwork: drop_path_rate={drop_path_rate!r} must be in [0, 1), a probability"
        )
