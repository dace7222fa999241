"""Small searches of both topology spaces, for tests."""

from mmengine.registry import init_default_scope

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



