"""Imports what commands need, in the process that they are forked from."""

import rarts_mm.apis
import tests.conftest  # noqa: F401
from rarts_mm.noise import import_without_noise

__all__ = ["rarts_mm"]

import_without_noise("mmdet.datasets")
