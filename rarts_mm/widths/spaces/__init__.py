"""What alpha stands for in a width search: where the scores are."""

from .batch_norm import BatchNormSpace
from .channel import ChannelSpace
from .pre_norm import PreNormSpace
from .width import WidthSpace

__all__ = ["BatchNormSpace", "ChannelSpace", "PreNormSpace", "WidthSpace"]
