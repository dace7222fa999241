"""The error that a command line reports without a traceback."""


class UsageError(ValueError):
    """Something the user gave does not work; the message names it, the reason and the remedy."""
