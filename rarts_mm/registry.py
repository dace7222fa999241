"""Registries of this package.

Each is a child of MMEngine's registry of the same kind, with the scope ``rarts_mm``: a config names a
module ``type='rarts_mm.X'`` from whatever default scope it lives in (``mmdet``, ``mmpretrain``), once
``custom_imports = dict(imports=['rarts_mm'], allow_failed_imports=False)`` stands in it.
"""

from mmengine import registry as mmengine_registry
from mmengine.registry import Registry


def _child(name: str, parent: str, *locations: str) -> Registry:
    return Registry(
        name,
        parent=getattr(mmengine_registry, parent),
        scope="rarts_mm",
        locations=[f"rarts_mm.{location}" for location in locations],
    )


MODELS = _child("model", "MODELS", "models", "widths")
MODEL_WRAPPERS = _child("model_wrapper", "MODEL_WRAPPERS", "engine")
OPTIM_WRAPPERS = _child("optim_wrapper", "OPTIM_WRAPPERS", "engine")
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    "optimizer wrapper constructor", "OPTIM_WRAPPER_CONSTRUCTORS", "engine"
)
LOOPS = _child("loop", "LOOPS", "engine")
HOOKS = _child("hook", "HOOKS", "engine")
DATASETS = _child("dataset", "DATASETS", "datasets")

# Kinds that MMEngine does not know.
ALTERNATIONS = Registry("alternation", scope="rarts_mm", locations=["rarts_mm.search"])
PENALTIES = Registry("penalty", scope="rarts_mm", locations=["rarts_mm.search"])
ADAPTERS = Registry("width adapter", scope="rarts_mm", locations=["rarts_mm.widths"])
SPACES = Registry("search space", scope="rarts_mm", locations=["rarts_mm.widths"])
