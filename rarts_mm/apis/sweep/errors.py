"""What ends a sweep."""


class SweepError(RuntimeError):
    """A job, or several, did not come to a good end."""
