"""RARTS for MMEngine: search a network's widths, prune it, fine-tune what is left.

Importing this package registers its modules; a config needs only
``custom_imports = dict(imports=['rarts_mm'], allow_failed_imports=False)``.
"""

# First, since it notes which process started this one: importing the libraries takes seconds.
from . import parent
from .interrupts import end_without_traceback
from .noise import silence_warnings
from .stack import check_stack
from .version import __version__
from .waiting import spin_shortly

# Before anything imports torch.
spin_shortly()
end_without_traceback()
silence_warnings()
check_stack()

# After the check: with a broken stack these imports would fail with less helpful words.
from . import cells, engine, models, search, widths  # noqa: E402
from .modules import groups, load, prune, save  # noqa: E402

__all__ = [
    "__version__",
    "cells",
    "engine",
    "groups",
    "load",
    "models",
    "parent",
    "prune",
    "save",
    "search",
    "widths",
]
