"""A Swin classifier of two blocks and images in memory, for tests that go through MMEngine."""

import copy
import itertools
import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, init_default_scope
from mmengine.runner import Runner
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.structures import DataSample

import rarts_mm  # noqa: F401  (registers its modules)
from rarts_mm.engine import RARTSOptimWrapper, RARTSOptimWrapperConstructor
from rarts_mm.models import SearchModel
from rarts_mm.search import AUXILIARY, PRIMARY

CLASSES = 4
# The Runner's global objects (logger, message hub, visualizer) go by the experiment's name.
_numbers = itertools.count()
UNITS = [
    f"backbone.stages.{stage}.blocks.0.{part}" for stage in (0, 1) for part in ("attn.w_msa", "ffn")
]


class Doubles(ClsDataPreprocessor):
    """MMPretrain's preprocessor, in float64."""

    def forward(self, data: dict, training: bool = False) -> dict:
        batch = super().forward(data, training)
        return {**batch, "inputs": batch["inputs"].double()}


class Pixels(BaseDataset):
    """``number`` random images with labels, drawn by a seed, in memory."""

    METAINFO: ClassVar[dict] = dict(classes=tuple(f"class {i}" for i in range(CLASSES)))

    def __init__(self, number: int, seed: int = 0, size: int = 28, **kwargs) -> None:
        self.number, self.seed, self.size = number, seed, size
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        generator = np.random.default_rng(self.seed)
        shape = (self.size, self.size, 3)
        return [
            dict(
                img=generator.integers(0, 256, shape, dtype=np.uint8),
                gt_label=int(generator.integers(CLASSES)),
                number=i,
            )
            for i in range(self.number)
        ]


def architecture(backbone: dict | None = None, head: dict | None = None, **more) -> dict:
    """Config of the classifier: no random draws in a forward pass, no batch statistics."""
    return dict(
        type="mmpretrain.ImageClassifier",
        backbone={
            "type": "SwinTransformer",
            "arch": dict(embed_dims=8, depths=[1, 1], num_heads=[1, 2]),
            "img_size": 28,
            "window_size": 3,
            "out_indices": (1,),
            "drop_path_rate": 0.0,
            **(backbone or {}),
        },
        neck=dict(type="GlobalAveragePooling"),
        head={
            "type": "LinearClsHead",
            "num_classes": CLASSES,
            "in_channels": 16,
            "loss": dict(type="CrossEntropyLoss"),
            **(head or {}),
        },
        _scope_="mmpretrain",
        **more,
    )


def preprocessor(kind: object = "ClsDataPreprocessor") -> dict:
    return dict(type=kind, mean=[120.0, 125.0, 130.0], std=[60.0, 61.0, 62.0], num_classes=CLASSES)


def randomize(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Random parameters, none of them zero or one; the names' order decides, not their owner."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            scale = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.5
            parameter.copy_(noise * scale)
    return model


def search_model(randomized: bool = True, **kwargs) -> SearchModel:
    """A search model in float64, random u, w and alpha all different."""
    init_default_scope("mmpretrain")
    settings = dict(architecture=architecture(), data_preprocessor=preprocessor(Doubles))
    model = SearchModel(**copy.deepcopy({**settings, **kwargs})).double()
    return randomize(model) if randomized else model


def batch(number: int = 3, seed: int = 0, size: int = 28) -> dict:
    """A batch as ``pseudo_collate`` gives it."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (number, 3, size, size), generator=generator, dtype=torch.uint8)
    labels = torch.randint(CLASSES, (number,), generator=generator).tolist()
    return dict(inputs=list(images), data_samples=[DataSample().set_gt_label(y) for y in labels])


def batches(seed: int = 0, number: int = 3) -> dict[str, dict]:
    """A pair of batches for one step."""
    return {AUXILIARY: batch(number, 2 * seed), PRIMARY: batch(number, 2 * seed + 1)}


def weights_config(**kwargs) -> dict:
    """An ordinary optim_wrapper config, as a base config has it."""
    return dict(
        type="OptimWrapper", optimizer=dict(type="AdamW", lr=0.01, weight_decay=0.05), **kwargs
    )


def wrap(model: torch.nn.Module, **cfg) -> RARTSOptimWrapper:
    """The search's optim wrapper from a config, as the Runner builds it."""
    cfg = dict(type="rarts_mm.RARTSOptimWrapper", weights=weights_config()) | cfg
    return RARTSOptimWrapperConstructor(cfg)(model)


def loader(number: int = 20, batch_size: int = 4, num_workers: int = 0, **kwargs) -> dict:
    """Config of a data loader."""
    return dict(
        batch_size=batch_size,
        num_workers=num_workers,
        # Serialising collects garbage, which takes longer than the training.
        dataset=dict(
            type=Pixels,
            number=number,
            pipeline=[dict(type="mmpretrain.PackInputs")],
            serialize_data=False,
        ),
        sampler=dict(type="DefaultSampler", shuffle=True),
        **kwargs,
    )


def runner(work_dir, epochs: int = 1, data: dict | None = None, **kwargs) -> Runner:
    """A Runner of a search; the keywords are the Runner's."""
    settings = dict(
        model=dict(type="rarts_mm.SearchModel", architecture=architecture()),
        data_preprocessor=preprocessor(),
        work_dir=str(work_dir),
        train_dataloader=data or loader(),
        train_cfg=dict(type="rarts_mm.SearchLoop", max_epochs=epochs, split=dict(seed=3)),
        optim_wrapper=dict(
            type="rarts_mm.RARTSOptimWrapper",
            constructor="rarts_mm.RARTSOptimWrapperConstructor",
            weights=weights_config(),
            penalty=dict(type="L1Penalty", gamma=1e-3),
        ),
        default_hooks=dict(logger=dict(type="LoggerHook", interval=1)),
        randomness=dict(seed=5, deterministic=True),
        default_scope="mmpretrain",
        experiment_name=f"tiny{next(_numbers)}",
    )
    return Runner(**{**settings, **kwargs})


def scalars(work_dir: Path) -> list[dict]:
    """What a run has logged, a dict per line."""
    (file,) = work_dir.glob("*/vis_data/scalars.json")
    return [json.loads(line) for line in file.read_text().splitlines()]


def log_text(work_dir: Path) -> str:
    """A run's log as text."""
    (file,) = work_dir.glob("*/*.log")
    return file.read_text()


PLAIN = """
custom_imports = dict(imports=["tests.tiny", "rarts_mm"])
default_scope = "mmpretrain"
model = {model}
data_preprocessor = {preprocessor}
train_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(type="TinyPixels", number=8, pipeline=[dict(type="PackInputs")]))
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=2)
optim_wrapper = dict(optimizer=dict(type="SGD", lr=0.01))
test_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="TinyPixels", number=8, pipeline=[dict(type="PackInputs")]))
test_cfg = dict()
test_evaluator = dict(type="Accuracy", topk=1)
default_hooks = dict(checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=1))
"""


# Appended to it, a search.
SEARCH = f"""
model = dict(type="rarts_mm.SearchModel", architecture={architecture()})
train_cfg = dict(type="rarts_mm.SearchLoop", max_epochs=1, split=dict(seed=3))
optim_wrapper = dict(
    type="rarts_mm.RARTSOptimWrapper",
    constructor="rarts_mm.RARTSOptimWrapperConstructor", weights={weights_config()})
"""


def plain_config(path: Path, model: dict | None = None, more: str = "") -> Path:
    """Write a config file that trains and tests a plain classifier, for the command lines."""
    DATASETS.register_module(name="TinyPixels", module=Pixels, force=True)
    text = PLAIN.format(model=model or architecture(), preprocessor=preprocessor())
    path.write_text(text + more)
    return path
