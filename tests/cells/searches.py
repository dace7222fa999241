"""Small searches of both topology spaces, for tests."""

from mmengine.registry import init_default_scope

from rarts_mm.search import AUXILIARY, PRIMARY
from tests import tiny

BACKBONES = {
    "CellSpace": (dict(type="rarts_mm.DARTSSearchNetwork", channels=4, layers=3), 64),
    "NATSSpace": (dict(type="rarts_mm.NATSSearchNetwork", channels=4, repeats=1), 16),
}
SPACES = tuple(BACKBONES)


def architecture(space: str) -> dict:
    """Config of a classifier around a space's search network."""
    backbone, width = BACKBONES[space]
    return dict(
        type="mmpretrain.ImageClassifier",
        backbone=dict(backbone),
        neck=dict(type="GlobalAveragePooling"),
        head=dict(
            type="LinearClsHead",
            num_classes=tiny.CLASSES,
            in_channels=width,
            loss=dict(type="CrossEntropyLoss"),
        ),
        _scope_="mmpretrain",
    )


def config(name: str, space: dict | None = None, **settings) -> dict:
    """Config of a search model; ``space`` holds further arguments of the space."""
    return dict(
        type="rarts_mm.SearchModel",
        architecture=architecture(name),
        space=dict(type=name, **(space or {})),
        **settings,
    )


def small(name: str, space: dict | None = None, **settings):
    """A search model in float64, all parameters random."""
    init_default_scope("mmpretrain")
    cfg = config(name, space, **settings)
    cfg.pop("type")
    return tiny.search_model(**cfg)


def batches(number: int = 2, seed: int = 0) -> dict[str, dict]:
    """A pair of batches of images of 8 x 8."""
    halves = ((AUXILIARY, seed), (PRIMARY, seed + 1))
    return {half: tiny.batch(number, each, size=8) for half, each in halves}


def loader(number: int = 8, batch_size: int = 2) -> dict:
    """Config of a data loader of images of 8 x 8."""
    cfg = tiny.loader(number, batch_size)
    cfg["dataset"]["size"] = 8
    return cfg
