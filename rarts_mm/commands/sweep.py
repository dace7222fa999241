"""Many trainings from one description: seeds, ratios, weights of the Lagrangian."""

from rarts_mm.apis.sweep.command import main, parse_args

__all__ = ["main", "parse_args"]
