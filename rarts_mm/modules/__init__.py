"""Pruning any ``torch.nn.Module`` from Python, without a config."""

from .files import load
from .pruning import Smaller, groups, prune, save

__all__ = ["Smaller", "groups", "load", "prune", "save"]
