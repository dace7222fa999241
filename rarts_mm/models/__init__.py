"""Models: the two-network search model and the conversion of published checkpoints."""

from .search_model import Alphas, BatchPair, SearchModel
from .swin_release import convert_on_load

__all__ = ["Alphas", "BatchPair", "SearchModel", "convert_on_load"]
