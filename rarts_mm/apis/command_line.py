"""What the command lines share."""

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from mmengine.config import DictAction

from rarts_mm.checkpoint_reader import trusting
from rarts_mm.config_names import find_config
from rarts_mm.parent import children_die_too, die_with_parent
from rarts_mm.preemption import PREEMPTED, Preempted

from .errors import UsageError
from .processes import (
    end_one_of_several,
    explain_to_launcher,
    is_echo_of_another_process,
    name_of_process,
    started_by_torchrun,
    wait_for_the_others,
    wait_to_be_ended,
)
from .stopping import stoppable
from .system_errors import keep_going_without_log_files, sentence_of
from .validation.building import TRACEBACK, explained_building

__all__ = [
    "CfgOptions",
    "UsageError",
    "add_cfg_options",
    "add_trust",
    "config_path",
    "run",
    "trusting",
]

_PACKAGE = Path(__file__).parents[1]
_LIBRARIES = ("mmengine", "mmcv", "mmdet", "mmpretrain")
_ENDS = {
    128 + signal.SIGINT: "interrupted",
    128 + signal.SIGTERM: "stopped",
    PREEMPTED: "ended to make room",
}


class CfgOptions(DictAction):
    """``--cfg-options KEY=VALUE ...`` as in the libraries, with a message for what is no pair."""

    def __call__(self, parser, namespace, values, option_string=None):
        for pair in values:
            if "=" not in pair:
                parser.error(f"{option_string} takes KEY=VALUE, got {pair!r}")
            key, _, value = pair.partition("=")
            # MMEngine's reader would make text of it, or recurse without end.
            if "dict(" in value or "{" in value:
                parser.error(
                    f"{option_string} {pair}: a dict is given key by key, such as {key}.type=NAME "
                    f"{key}.OTHER=VALUE"
                )
        super().__call__(parser, namespace, values, option_string)


def config_path(name: str) -> str:
    """For ``type=`` of an argument: a config's path, also of one that a package ships (``mmdet::...``)."""
    try:
        return find_config(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_cfg_options(parser: argparse.ArgumentParser, says: str) -> None:
    """Add ``--cfg-options KEY=VALUE ...`` with a help text."""
    parser.add_argument(
        "--cfg-options", nargs="+", action=CfgOptions, metavar="KEY=VALUE", help=says
    )


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add ``--trust-checkpoint``, for :func:`~rarts_mm.checkpoint_reader.trusting`."""
    parser.add_argument(
        "--trust-checkpoint",
        action="store_true",
        help="read checkpoints that hold more than data, by running what is in them: as safe as a "
        "program of whoever made them (default: such files are refused)",
    )


def run(main: Callable[[], object], hint: str = "") -> None:
    """Run a command and end it in a readable way.

    An error that this package raised says what is wrong and what to do, so its message alone goes to
    standard error: with status 2 for bad input (``ValueError``) and 1 for a failure on the way
    (``RuntimeError``). So do errors of the system about a file (``system_errors.py``), and of classes that
    a config's settings do not fit. Any other error is a surprise and keeps its traceback. Ctrl-C and
    SIGTERM end it with 130 and 143, pre-emption with 75 (:mod:`rarts_mm.preemption`).

    Nothing that the command started outlives it, even if it is killed.

    Args:
        main: the command.
        hint: how to go on after such an end.
    """
    keep_going_without_log_files()
    children_die_too()
    if started_by_torchrun():
        die_with_parent()
    surprise = None
    with stoppable() as stopping:
        try:
            with explained_building(unless=is_told_by_run):
                main()
            wait_for_the_others()
            status = 0
        # This is where a process ends: by any error (a library may have made anything of Stopped), by
        # SystemExit (the arguments' parser, Stopped, Preempted) or Ctrl-C. What nobody can explain is
        # raised again below.
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            status = 1
            if isinstance(error, Preempted):
                status = PREEMPTED
            elif stopping.signum is None and (status := _explain(error)) is None:
                surprise = error
        if stopping.signum is not None:
            status = stopping.status
        # The launcher says it for all of its processes.
        if status in _ENDS and not started_by_torchrun():
            print(f"{_ENDS[status]}{hint and '; '}{hint}", file=sys.stderr)
    end_one_of_several(status, surprise)
    if surprise is not None:
        raise surprise
    if status:
        raise SystemExit(status)


def _explain(error: BaseException) -> int | None:
    """Say what is wrong; return the status, or None where only the error itself can tell."""
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT
    if not isinstance(error, ValueError | TypeError | RuntimeError | OSError | AssertionError):
        return None
    if is_echo_of_another_process(error):
        wait_to_be_ended()
        return 1
    explain_to_launcher(error)
    if not speaks_for_itself(error):
        return None
    print(f"error{name_of_process()}: {in_words(error)}", file=sys.stderr)
    return 1 if isinstance(error, RuntimeError) else 2


def is_told_by_run(error: BaseException) -> bool:
    """Whether :func:`run` has words for an error without knowing what was being built."""
    # An assertion says more with the name of the class that was built.
    if isinstance(error, AssertionError):
        return False
    return is_echo_of_another_process(error) or speaks_for_itself(error)


def speaks_for_itself(error: BaseException) -> bool:
    """Whether an error's message says all that its reader needs."""
    if isinstance(error, UsageError):
        return True
    # No such folder, permission denied, no space left.
    if sentence_of(error) is not None:
        return True
    # A key of a config that the class does not know, with the class's name.
    if isinstance(error, TypeError) and "unexpected keyword argument" in str(error):
        return True
    # Raised anew for the process that asked a data worker.
    if type(error).__module__.partition(".")[0] == _PACKAGE.name:
        return True
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    # The libraries' assertions that say something speak to whoever wrote the config.
    if isinstance(error, AssertionError):
        if os.environ.get(TRACEBACK):
            return False
        return bool(str(error)) and frame.f_globals["__name__"].partition(".")[0] in _LIBRARIES
    return Path(frame.f_code.co_filename).is_relative_to(_PACKAGE)


def in_words(error: BaseException) -> str:
    """What a user reads of an error that :func:`speaks_for_itself`."""
    if (sentence := sentence_of(error)) is not None:
        return sentence
    kind, text = type(error), str(error)
    # torch hands on the worker's whole traceback as the message; its last entry is the message proper.
    marker = f"\n{kind.__module__}.{kind.__qualname__}: "
    if "DataLoader worker process" in text.partition("\n")[0] and marker in text:
        return text.rpartition(marker)[2].strip()
    return text
