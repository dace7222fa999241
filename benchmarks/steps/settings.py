"""What is timed: searches built from the project's own configs, and a pair of batches."""

import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS

from rarts_mm.apis.configs import prepare_registries, read_config
from rarts_mm.engine import RARTSOptimWrapper
from rarts_mm.models import SearchModel
from rarts_mm.registry import ALTERNATIONS, MODELS
from rarts_mm.search import ALPHA, AUXILIARY, PRIMARY

CONFIGS = Path(__file__).parents[2] / "configs"
# Of the learning rates, while steps are timed. A detector's work depends on what it finds; so all
# searches have the same work in each pass, and the first step has as much as the last.
STILL = 1e-9


@dataclass(frozen=True)
class Setting:
    """A search config, made small, and where its batches come from.

    Attributes:
        config: file name under ``configs/``.
        batch, size: defaults: images in each of the two batches, pixels of their sides.
        shrink: changes the config for images of a size, in place.
        batches: gives the two batches for a config, a number of images and a size.
        least: the smallest size that the network takes.
        multiple: sizes must be multiples of this.
        once: whether it has operators that cannot be differentiated twice.
        steps: of the published search, as (per epoch, epochs); None: there is none.
        published_batch: images in each of its two batches.
    """

    config: str
    batch: int
    size: int
    shrink: Callable[[Config, int], None]
    batches: Callable[[Config, int, int], list[dict]]
    least: int = 64
    multiple: int = 32
    once: bool = False
    steps: tuple[int, int] | None = None
    published_batch: int | None = None


# What can be measured: every alternation with its default arguments, and what is worth it besides.
VARIANTS = {name: dict(type=name) for name in sorted(ALTERNATIONS.module_dict)} | {
    "DARTS2-exact": dict(type="DARTS2", derivative="exact")
}


@dataclass
class Search:
    """A search under measurement; calling it performs one step."""

    model: SearchModel
    optim_wrapper: RARTSOptimWrapper
    data: dict[str, dict]

    def __call__(self) -> dict[str, torch.Tensor]:
        return self.model.train_step(self.data, self.optim_wrapper)


def search_config(setting: Setting, size: int) -> Config:
    """The config of a setting for images of a size."""
    cfg = read_config(CONFIGS / setting.config)
    prepare_registries(cfg)
    setting.shrink(cfg, size)
    if cfg.get("data_preprocessor") is not None:
        # The Runner hands it to the outermost model.
        cfg.model.setdefault("data_preprocessor", cfg.data_preprocessor)
    return cfg


def build_search(
    cfg: Config, alternation: str, batches: list[dict], device: str, amp: str | None = None
) -> Search:
    """What the Runner would build for this config and alternation, in training mode.

    Every alternation starts from the same weights; those that move u get two networks.

    Args:
        cfg: config of the search.
        alternation: a key of :data:`VARIANTS`.
        batches: one of the auxiliary half, one of the primary half.
        device: where to put the model.
        amp: number type of mixed precision, or None.
    """
    torch.manual_seed(0)
    rule = VARIANTS[alternation]
    players = ALTERNATIONS.get(rule["type"]).players
    model = MODELS.build(dict(cfg.model, networks=2 if PRIMARY in players else 1))
    model.init_weights()
    model.to(device).train()
    wrapper = dict(cfg.optim_wrapper, alternation=rule)
    if ALPHA not in players:
        wrapper["penalty"] = None
    if amp:
        wrapper["amp"] = dict(dtype=amp)
    data = dict(zip((AUXILIARY, PRIMARY), batches, strict=True))
    search = Search(model, build_optim_wrapper(model, wrapper), data)
    for player in search.optim_wrapper.stepper.players.values():
        for group in player.optimizer.param_groups:
            group["lr"] *= STILL
    return search


def _shrink_classifier(cfg: Config, size: int) -> None:
    """Half of Swin-T's width and two blocks less; windows that fill the last map, as at 224."""
    architecture = cfg.model.architecture
    architecture.backbone.update(
        arch=dict(embed_dims=48, depths=[2, 2, 4, 2], num_heads=[3, 6, 12, 24]),
        img_size=size,
        window_size=size // 32,
    )
    architecture.head.in_channels = 48 * 8


def _noise(cfg: Config, batch: int, size: int) -> list[dict]:
    """Images of noise with labels: a classifier computes the same whatever it sees."""
    from mmpretrain.structures import DataSample

    classes = cfg.model.architecture.head.num_classes
    generator = torch.Generator().manual_seed(0)

    def draw(high: int, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randint(high, shape, generator=generator)

    return [
        dict(
            inputs=draw(256, (batch, 3, size, size)).to(torch.uint8),
            data_samples=[DataSample().set_gt_label(i) for i in draw(classes, (batch,))],
        )
        for _ in range(2)
    ]


def _leave(cfg: Config, size: int) -> None:
    """Small as it is."""


def _one_stage(cfg: Config, size: int) -> None:
    """RetinaNet in the place of Cascade Mask R-CNN: the same backbone, no regions to align."""
    architecture = cfg.model.architecture
    channels = architecture.neck.out_channels
    cfg.model.architecture = dict(
        type="RetinaNet",
        data_preprocessor=architecture.data_preprocessor,
        backbone=architecture.backbone,
        neck=architecture.neck,
        bbox_head=dict(
            type="RetinaHead",
            num_classes=cfg.num_classes,
            in_channels=channels,
            feat_channels=channels,
            stacked_convs=4,
            anchor_generator=dict(
                type="AnchorGenerator",
                octave_base_scale=4,
                scales_per_octave=3,
                ratios=[0.5, 1.0, 2.0],
                strides=[4, 8, 16, 32, 64],
            ),
            bbox_coder=architecture.rpn_head.bbox_coder,
            loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25),
            loss_bbox=dict(type="L1Loss"),
        ),
        train_cfg=dict(
            assigner=dict(
                type="MaxIoUAssigner",
                pos_iou_thr=0.5,
                neg_iou_thr=0.4,
                min_pos_iou=0,
                ignore_iof_thr=-1,
            ),
            sampler=dict(type="PseudoSampler"),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
        test_cfg=dict(nms_pre=100, score_thr=0.05, nms=dict(type="nms", iou_threshold=0.5)),
    )


def _shapes(cfg: Config, batch: int, size: int) -> list[dict]:
    """Generated images with boxes and masks, through the config's own training pipeline."""
    from rarts_mm.datasets import make_shapes

    dataset = copy.deepcopy(cfg.train_dataloader.dataset)
    for step in dataset.pipeline:
        if step.type == "Resize":
            step.scale = (size, size)
    with tempfile.TemporaryDirectory() as folder:
        make_shapes(Path(folder, "shapes"), train=2 * batch, val=1, size=size)
        images = DATASETS.build(dict(dataset, data_root=f"{folder}/shapes"))
        # The filter may drop an image without shapes.
        samples = [images[i % len(images)] for i in range(2 * batch)]
    return [pseudo_collate(samples[:batch]), pseudo_collate(samples[batch:])]


SETTINGS = {
    "swin-classifier": Setting("sidt_swin_t_cifar100.py", 8, 128, _shrink_classifier, _noise),
    "darts-network": Setting(
        "rarts_darts_cifar10.py",
        *(4, 32, _leave, _noise, 8, 4),
        # Half of CIFAR-10 in batches of 64 (Liu et al., ICLR 2019, appendix A.1).
        steps=(391, 50),
        published_batch=64,
    ),
    "one-stage-detector": Setting("sidt_swin_micro_shapes.py", 8, 96, _one_stage, _shapes),
    "detector": Setting("sidt_swin_micro_shapes.py", 8, 96, _leave, _shapes, once=True),
}
