"""Running a command of this checkout by the path of its file in ``tools/``, as people type it."""

import sys
from pathlib import Path


def run(file: str) -> None:
    """Run the command that a file is named after, with the arguments of the command line."""
    try:
        from rarts_mm.console import run_command
    except ImportError as error:
        if type(error).__name__ == "StackError":
            sys.exit(f"error: {error}")
        if error.name != "rarts_mm":
            raise
        sys.exit(
            f"error: rarts_mm is not installed for {sys.executable}. Set it up and use its Python: "
            "make setup, then source .venv/bin/activate"
        )
    run_command(Path(file).stem)
