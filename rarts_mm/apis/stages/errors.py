"""The failure of a stage."""


class StageError(RuntimeError):
    """A stage of a chain failed; the message and the stage's log say why."""
