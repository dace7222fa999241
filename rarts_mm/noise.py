"""What the libraries say on every start and no user of this package can act on, in one list.

Each entry is one message of one module; a warning that is not in the list is shown, whatever its kind.
"""

import contextlib
import importlib
import io
import logging
import sys
import warnings

# (beginning of the message as a regular expression, module that warns), of Python's warnings.
_WARNINGS = (
    # mmdet imports an optional metric with all others. A config that asks for the metric is told by
    # apis/preflight.py.
    (r"faster_coco_eval is not installed", r"mmdet\.evaluation\.metrics\.faster_coco_metric"),
    # mmdet's own way of making a tensor of one, at every validation of masks.
    (r"To copy construct from a tensor", r"mmdet\.models\.roi_heads\.mask_heads\.fcn_mask_head"),
)
# Beginnings of messages in MMEngine's log: its own hooks use what it calls deprecated.
_LOG = (
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias of "LocalBackend"',
)
# What modules print while they are imported: of packages that their makers alone have.
_PRINTED = ("Could not import OneDL. Skipping OneDL datasets.",)


def silence_warnings() -> None:
    """Let the listed warnings pass unseen, in this process; before the libraries are imported."""
    for message, module in _WARNINGS:
        warnings.filterwarnings("ignore", message, UserWarning, module)


def import_without_noise(module: str) -> None:
    """Import a module that is going to be imported anyway; the listed lines are not printed."""
    if module in sys.modules:
        return
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            importlib.import_module(module)
    finally:
        for line in printed.getvalue().splitlines():
            if line not in _PRINTED:
                print(line)


class LibraryNoise(logging.Filter):
    """Keeps the listed messages out of a logger."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(_LOG)
