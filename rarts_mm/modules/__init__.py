"""Pruning and searching any ``torch.nn.Module`` from Python, without a config."""

from .files import load
from .pruning import groups, prune, save
from .result import Smaller
from .searching import Search

__all__ = ["Search", "Smaller", "groups", "load", "prune", "save"]
