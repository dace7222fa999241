"""What the command lines share."""

import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from .errors import UsageError

__all__ = ["UsageError", "run"]

_PACKAGE = Path(__file__).parents[1]


def run(main: Callable[[], object]) -> None:
    """Run a command and end it in a readable way.

    An error that this package raised says what is wrong and what to do, so its message alone goes to
    standard error: with status 2 for bad input (``ValueError``) and 1 for a failure on the way
    (``RuntimeError``). Any other error is a surprise and keeps its traceback.
    """
    # So that what a command started is stopped with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted; --resume, or the same command, goes on from here", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None
    except (ValueError, TypeError, RuntimeError, OSError) as error:
        if not _raised_here(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1 if isinstance(error, RuntimeError) else 2) from None


def _raised_here(error: BaseException) -> bool:
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return Path(frame.f_code.co_filename).is_relative_to(_PACKAGE)
