"""Batch norms whose scales are scores: Network Slimming."""

from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.model.utils import _BatchNormXd
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .shared_scores import SharedScores
from .sliced_layers import SlicedBatchNorm2d, SlicedSyncBatchNorm


class ScoringNorm(SharedScores):
    """A batch norm whose scale, ``weight``, is alpha, owned by somebody else.

    The state dict is that of the plain norm, weight included; ``parameters()`` lack the weight, so that
    only alpha's optimiser moves it.
    """

    # The name that batch norms compute with and initialisers write to.
    @property
    def weight(self) -> Tensor:
        return self.alpha

    def _save_to_state_dict(self, destination, prefix, keep_vars) -> None:
        with _registered(self):
            super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs) -> None:
        with _registered(self):
            super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


@contextmanager
def _registered(norm: ScoringNorm) -> Iterator[None]:
    """Within the context, alpha is the norm's parameter ``weight``."""
    norm._parameters["weight"] = norm.alpha
    try:
        yield
    finally:
        del norm._parameters["weight"]


# The plain classes stand among the bases by name, as MMEngine's initialisers look there.
class ScoringBatchNorm2d(ScoringNorm, nn.BatchNorm2d, _BatchNorm):
    """A batch norm whose scales are scores."""


class ScoringSyncBatchNorm(ScoringNorm, nn.SyncBatchNorm, _BatchNorm):
    """A synchronised batch norm whose scales are scores."""


class ScoringBatchNormXd(ScoringNorm, _BatchNormXd, _BatchNorm):
    """What MMEngine's Runner makes of SyncBN in a single process, with scores for scales."""


class ScoringSlicedBatchNorm2d(ScoringNorm, SlicedBatchNorm2d, nn.BatchNorm2d, _BatchNorm):
    """A batch norm of a pruned network that is searched again."""


class ScoringSlicedSyncBatchNorm(ScoringNorm, SlicedSyncBatchNorm, nn.SyncBatchNorm, _BatchNorm):
    """A synchronised batch norm of a pruned network that is searched again."""


# In this order: the first class that a layer is of counts.
_SCORING = {
    SlicedSyncBatchNorm: ScoringSlicedSyncBatchNorm,
    SlicedBatchNorm2d: ScoringSlicedBatchNorm2d,
    nn.SyncBatchNorm: ScoringSyncBatchNorm,
    nn.BatchNorm2d: ScoringBatchNorm2d,
    _BatchNormXd: ScoringBatchNormXd,
}


def give_scale(norm: nn.Module) -> nn.Parameter:
    """Make the scale of a batch norm alpha, in place; returns it, (channels,).

    The caller owns it from now on.
    """
    kind = next(k for k in _SCORING if isinstance(norm, k))
    scale = norm._parameters.pop("weight")
    norm.__class__ = _SCORING[kind]
    norm.refer(scale)
    return scale


def take_scale(norm: ScoringNorm) -> None:
    """Make a batch norm own its scale again, in place."""
    scale = norm.__dict__.pop("alpha")
    norm.__class__ = next(k for k, scoring in _SCORING.items() if type(norm) is scoring)
    bias = norm._parameters.pop("bias")
    norm._parameters.update(weight=scale, bias=bias)
