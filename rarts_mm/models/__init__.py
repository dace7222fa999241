"""Models: the two-network search model, distillation, conversion of published checkpoints."""

from rarts_mm.stack import check_stack

# With a broken stack what follows would fail with less helpful words.
check_stack()

from .activation_checkpointing import checkpoint_activations
from .batch_pair import BatchPair
from .distillation import DistilledClassifier, DistilledDetector
from .preresnet import PreResNet
from .search_model import Alphas, SearchModel
from .swin_release import convert_on_load

__all__ = [
    "Alphas",
    "BatchPair",
    "DistilledClassifier",
    "DistilledDetector",
    "PreResNet",
    "SearchModel",
    "checkpoint_activations",
    "convert_on_load",
]
