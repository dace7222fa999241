"""What the command lines share."""

import sys
from collections.abc import Callable

from .errors import UsageError


def run(main: Callable[[], object]) -> None:
    """Run a command; a user's mistake ends it with its message on standard error and status 2."""
    try:
        main()
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
