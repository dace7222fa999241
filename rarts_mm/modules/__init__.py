"""Pruning any ``torch.nn.Module`` from Python, without a config."""

from .files import load, save
from .pruning import Smaller, groups, prune

__all__ = ["Smaller", "groups", "load", "prune", "save"]
