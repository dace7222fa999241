"""Registries of this package.

Each is a child of MMEngine's registry of the same kind, with the scope ``rarts_mm``: a config names a
module ``type='rarts_mm.X'`` from whatever default scope it lives in (``mmdet``, ``mmpretrain``), once
``custom_imports = dict(imports=['rarts_mm'], allow_failed_imports=False)`` stands in it.
"""

from mmengine import registry as mmengine_registry
from mmengine.registry import Registry

from . import config_names  # noqa: F401  (lets configs be named by this package)


def _child(name: str, parent: str, *locations: str) -> Registry:
    return Registry(
        name,
        parent=getattr(mmengine_registry, parent),
        scope="rarts_mm",
        locations=[f"rarts_mm.{location}" for location in locations],
    )


MODELS = _child("model", "MODELS", "models", "widths", "cells", "cells.nats", "cells.retraining")
MODEL_WRAPPERS = _child("model_wrapper", "MODEL_WRAPPERS", "engine")
OPTIM_WRAPPERS = _child("optim_wrapper", "OPTIM_WRAPPERS", "engine")
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    "optimizer wrapper constructor", "OPTIM_WRAPPER_CONSTRUCTORS", "engine"
)
LOOPS = _child("loop", "LOOPS", "engine")
HOOKS = _child("hook", "HOOKS", "engine")
DATASETS = _child("dataset", "DATASETS", "datasets")


class _OwnRegistry(Registry):
    """A kind that MMEngine does not know: a root of its own, whatever the default scope."""

    def build(self, cfg, *args, **kwargs):
        # Without a scope the registry would look for the default one (mmdet, mmpretrain) and warn.
        return super().build({**cfg, "_scope_": "rarts_mm"}, *args, **kwargs)


def _own(name: str, location: str) -> Registry:
    return _OwnRegistry(name, scope="rarts_mm", locations=[f"rarts_mm.{location}"])


ALTERNATIONS = _own("alternation", "search")
PENALTIES = _own("penalty", "search")
ADAPTERS = _own("width adapter", "widths")
SPACES = _own("search space", "widths")
RELAXATIONS = _own("relaxation", "cells")
