"""The tiny searches as config files, for the command lines; importing this registers their data."""

from pathlib import Path

from mmengine.config import Config
from mmengine.registry import DATASETS

from tests import tiny
from tests.cells import searches

DATASETS.register_module(name="Pixels", module=tiny.Pixels)

ALPHA = dict(type="L1Penalty", gamma=1e-3)


def search_config(path: Path, space: str = "widths", **more) -> Path:
    """Write the config of a search of two epochs, which is validated, too.

    Args:
        space: ``'widths'`` of a Swin classifier, or one of ``searches.SPACES``.
        more: further keys of the config; a dict is merged into the key's own.
    """
    data = tiny.loader(16, 2) if space == "widths" else searches.loader(16, 2)
    data["dataset"] |= dict(type="Pixels", seed=1)
    judged = dict(data, sampler=dict(type="DefaultSampler", shuffle=False))
    alpha = ALPHA if space == "widths" else None
    model = dict(type="rarts_mm.SearchModel", architecture=tiny.architecture())
    cfg = dict(
        custom_imports=dict(imports=["rarts_mm", "tests.tiny_files"], allow_failed_imports=False),
        default_scope="mmpretrain",
        model=model if space == "widths" else searches.config(space),
        data_preprocessor=tiny.preprocessor(),
        train_dataloader=data,
        train_cfg=dict(type="rarts_mm.SearchLoop", max_epochs=2, split=dict(seed=3)),
        optim_wrapper=dict(
            type="rarts_mm.RARTSOptimWrapper",
            constructor="rarts_mm.RARTSOptimWrapperConstructor",
            weights=tiny.weights_config(),
            penalty=alpha,
        ),
        param_scheduler=[dict(type="CosineAnnealingLR", eta_min=1e-4, by_epoch=False, end=8)],
        val_dataloader=judged,
        val_cfg=dict(),
        val_evaluator=dict(type="Accuracy"),
        test_dataloader=judged,
        test_cfg=dict(),
        test_evaluator=dict(type="Accuracy"),
        default_hooks=dict(logger=dict(type="LoggerHook", interval=1)),
        randomness=dict(seed=5, deterministic=True),
    )
    cfg = Config(cfg)
    cfg.merge_from_dict(more)
    path.parent.mkdir(parents=True, exist_ok=True)
    cfg.dump(path)
    return path
