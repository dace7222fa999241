"""Models: the two-network search model and the conversion of published checkpoints."""

from .activation_checkpointing import checkpoint_activations
from .batch_pair import BatchPair
from .preresnet import PreResNet
from .search_model import Alphas, SearchModel
from .swin_release import convert_on_load

__all__ = [
    "Alphas",
    "BatchPair",
    "PreResNet",
    "SearchModel",
    "checkpoint_activations",
    "convert_on_load",
]
