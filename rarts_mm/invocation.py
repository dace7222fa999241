"""How a command is typed here, for messages that name one."""

from pathlib import Path

_TOOLS = Path(__file__).resolve().parents[1] / "tools"


def words(name: str) -> list[str]:
    """What is typed for a command: in a checkout the path of its file, elsewhere ``rarts-mm``."""
    file = name.replace("-", "_")
    if (_TOOLS / "checkout.py").is_file() and (_TOOLS / f"{file}.py").is_file():
        return ["python", f"tools/{file}.py"]
    return ["rarts-mm", name.replace("_", "-")]


def spelled(name: str) -> str:
    """The same as one text."""
    return " ".join(words(name))
