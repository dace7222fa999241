"""RARTS for MMEngine: search a network's widths, prune it, fine-tune what is left.

Importing this package makes its registries known, and nothing else: what a config names is imported when it
is first asked for. A config needs only
``custom_imports = dict(imports=['rarts_mm'], allow_failed_imports=False)``.
"""

from importlib import import_module
from typing import Any

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

try:
    from . import registry
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "mmengine":
        raise
    # Says what else is missing, and how it is installed.
    check_stack()
    raise

# Name -> the module that has it.
_FROM = {
    "Search": "modules",
    "groups": "modules",
    "load": "modules",
    "prune": "modules",
    "save": "modules",
}
_ROOMS = ("cells", "datasets", "engine", "models", "modules", "search", "widths")

__all__ = ["__version__", "parent", "registry", *_FROM, *_ROOMS]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    if name in _FROM:
        return getattr(import_module(f"{__name__}.{_FROM[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
