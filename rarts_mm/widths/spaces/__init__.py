"""What alpha stands for in a width search: where the scores are."""

from .batch_norm import BatchNormSpace
from .channel import ChannelSpace
from .literal import LiteralSpace
from .width import WidthSpace

__all__ = ["BatchNormSpace", "ChannelSpace", "LiteralSpace", "WidthSpace"]
