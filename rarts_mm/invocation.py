"""How a command is typed here, for messages that name one."""

import sys
from pathlib import Path

_TOOLS = Path(__file__).resolve().parents[1] / "tools"


def words(name: str) -> list[str]:
    """What is typed for a command: the path of its file for who works in the checkout, else ``rarts-mm``."""
    file = name.replace("-", "_")
    started_here = Path(sys.argv[0]).resolve().parent == _TOOLS or Path.cwd() == _TOOLS.parent
    if started_here and (_TOOLS / f"{file}.py").is_file():
        return ["python", f"tools/{file}.py"]
    return ["rarts-mm", name.replace("_", "-")]


def spelled(name: str) -> str:
    """The same as one text."""
    return " ".join(words(name))
