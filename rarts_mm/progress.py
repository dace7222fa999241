"""How far a run has come, told to whoever listens: the screen of a chain of runs.

A report is a dict that JSON can hold, with some of these keys:

- ``done``, ``of``: steps that are done, and steps in all;
- ``text``: where the run is, in a few words (``epoch 3/10, loss 0.72``);
- ``metrics``: what an evaluation gave, under the evaluator's names.
"""

from collections.abc import Callable

Listener = Callable[[dict], None]

_listener: Listener | None = None


def listen(listener: Listener | None) -> None:
    """From now on give the reports of this process to ``listener``; None ends that."""
    global _listener
    _listener = listener


def is_followed() -> bool:
    """Whether somebody listens: if not, nothing need be computed for a report."""
    return _listener is not None


def report(**what) -> None:
    """Tell the listener, if there is one."""
    if _listener is not None:
        _listener(what)
