"""Stages of a long chain: each once, in a fresh interpreter, with its own log and a line on the screen."""

from .errors import StageError
from .record import Stages

__all__ = ["StageError", "Stages"]
