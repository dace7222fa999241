"""What the command lines call."""

from rarts_mm.stack import check_stack

# Before the libraries themselves are imported, which would fail with less helpful words.
check_stack()

# All that a config may name is there from the start, so that near misses are known.
import rarts_mm.cells.retraining
import rarts_mm.engine
import rarts_mm.models
import rarts_mm.search
import rarts_mm.widths  # noqa: F401
from rarts_mm.checkpoint_reader.mmengine_loading import read_for_mmengine

from . import command_line
from .compress import compress
from .configs import plain_config, read_config
from .curve import draw_curve
from .derive import Derived, derive
from .errors import UsageError
from .evaluate import evaluate
from .finding import checkpoint_in, latest_search
from .list_units import list_units
from .max_drop import MaxDrop, choose_ratio
from .once import work_once
from .plans import Plan, Ranking
from .prune import Extras, Pruned, prune
from .search_checkpoint import load_search
from .targets import Target, parse_target
from .train import train, training_config

# Whatever a command lets MMEngine load is read as data, too, and checked.
read_for_mmengine()
work_once()

__all__ = [
    "Derived",
    "Extras",
    "MaxDrop",
    "Plan",
    "Pruned",
    "Ranking",
    "Target",
    "UsageError",
    "checkpoint_in",
    "choose_ratio",
    "command_line",
    "compress",
    "derive",
    "draw_curve",
    "evaluate",
    "latest_search",
    "list_units",
    "load_search",
    "parse_target",
    "plain_config",
    "prune",
    "read_config",
    "train",
    "training_config",
]
