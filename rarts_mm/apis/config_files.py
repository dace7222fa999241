"""Configs as files: their text, and the names in it that MMEngine would paste or replace."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from mmengine.config import Config

from .errors import UsageError

# The compiler of a config is told its real path; MMEngine reads a copy of it elsewhere. Its own
# ``{{ fileDirname }}`` would paste the folder's name into Python text, quotes and all.
_BESIDE = '''

import os


def _beside(name):
    """Path of a file in the folder of this one."""
    return os.path.join(os.path.dirname(_beside.__code__.co_filename), name)


'''
# What MMEngine replaces in a config's text, wherever it stands.
_OF_THE_FILE = re.compile(r"\{\{\s*file(Dirname|Basename|BasenameNoExtension|Extname)\s*\}\}")
_TEMPLATES = re.compile(
    rf"{_OF_THE_FILE.pattern}|\{{\{{['\"]?\s*\$\w+\s*:|\{{\{{\s*_base_\.[\w.]+\s*\}}\}}"
)
# What ends or changes a string of Python, or is replaced in turn.
_UNSAFE = re.compile(r"['\"\\\n\r]|\{\{")


def config_text(cfg: Config, beside: Mapping[str, str] | None = None) -> str:
    """The text of a config file that is read back as it is, by any tool of MMEngine's.

    Args:
        cfg: the config.
        beside: key -> name of a file or folder beside the config's file, wherever that is moved to.

    Raises:
        UsageError: a key that MMEngine cannot write.
    """
    for key in _keys(cfg._cfg_dict.to_dict()):
        if isinstance(key, str) and repr(key) != f"'{key}'":
            raise UsageError(
                f"the config cannot be written: its key {key!r} holds a quote, a backslash or a control "
                "character; rename it, or the file or folder that it names"
            )
    # Braces like these are in strings only, where the text of one may be given as its number.
    text = cfg.pretty_text.replace("{{", r"{\x7b")
    if not beside:
        return text
    return text + _BESIDE + "".join(f"{key} = _beside({name!r})\n" for key, name in beside.items())


def leave_out_helpers(cfg: Config) -> None:
    """Take out what a config's program needed and a config's text cannot say.

    What it imports or defines at its top (``from pathlib import Path``) are no settings, and MMEngine
    would write them down as if they were; paths are settings, and are written as strings.
    """
    settings = cfg._cfg_dict
    for key in [key for key, value in settings.items() if callable(value)]:
        del settings[key]
    _paths_to_strings(settings)


def _paths_to_strings(value: Any) -> Any:
    """The same containers, changed in place, without path objects."""
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, dict):
        for key, inner in value.items():
            if (changed := _paths_to_strings(inner)) is not inner:
                value[key] = changed
    elif isinstance(value, list):
        value[:] = [_paths_to_strings(inner) for inner in value]
    elif type(value) is tuple:
        inner = tuple(_paths_to_strings(each) for each in value)
        return inner if any(a is not b for a, b in zip(inner, value, strict=True)) else value
    return value


def refuse_pasted_name(path: str | Path) -> None:
    """Raise where reading a config would paste a file's name into Python text, and the name is code.

    Raises:
        UsageError: names the file; nothing of it has been executed.
    """
    for file in _with_bases(Path(path).absolute()):
        if _UNSAFE.search(str(file)) and (found := _OF_THE_FILE.search(_text(file))):
            raise UsageError(
                f"config {str(file)!r} asks for {found[0]}, which pastes its name into Python text, and "
                "the name holds a quote, a backslash, a line break or braces; rename the folder, or "
                "write the path out"
            )


def refuse_templates(cfg: Config) -> None:
    """Raise where a config holds a name that MMEngine would replace once it is written and read again.

    Raises:
        UsageError: names it.
    """
    for value in _strings(cfg._cfg_dict.to_dict()):
        if found := _TEMPLATES.search(value):
            raise UsageError(
                f"{value!r} holds {found[0]!r}, which MMEngine would replace when it reads the config "
                "that it leaves in the work dir; rename the file or folder"
            )


def _with_bases(path: Path) -> Iterator[Path]:
    """A config's file and the local ones that it inherits, as far as that is known without running it."""
    if path.suffix != ".py" or not path.is_file():
        return
    yield path
    try:
        statements = ast.parse(_text(path)).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for each in statements:
        if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "_base_":
            for node in ast.walk(each.value):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield from _with_bases(path.parent / node.value)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _keys(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield key
            yield from _keys(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _keys(inner)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)
