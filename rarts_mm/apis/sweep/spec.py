"""The description of a sweep: a YAML file, and the jobs that it stands for."""

import difflib
import hashlib
import itertools
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from rarts_mm.config_names import find_config

from ..errors import UsageError

# Without the current folder among the places of modules, where Python can: as the command itself does.
RUN = [sys.executable, *(["-P"] if sys.version_info >= (3, 11) else []), "-m", "rarts_mm"]
_KEYS = ("tool", "config", "work_dir", "arguments", "options", "grid", "slurm")
_RUNNERS = ("compress", "train")
# What a sweep gives itself, or gives all at once.
_OWN = {
    "--work-dir": "each job has a folder of its own under work_dir",
    "--cfg-options": "write settings of the config under options, or under grid",
    "--resume": "every job goes on where it stopped",
    "--launcher": "every job is one process",
}
_LONGEST_NAME = 100


@dataclass(frozen=True)
class Job:
    """One point of the grid.

    Attributes:
        number: its place in the grid, from 0.
        name: of its files, such as ``seed=0,lam=0.5``.
        point: short name of each setting -> its value.
        command: what is run.
        folder: work dir of the command.
        log: file that gets all that it prints.
        record: JSON file that says how it ended.
    """

    number: int
    name: str
    point: dict[str, Any]
    command: list[str]
    folder: Path
    log: Path
    record: Path

    @property
    def asks(self) -> list[str]:
        """What of the command makes it another job: not the interpreter, nor the tool."""
        return self.command[len(RUN) + 1 :]


@dataclass
class Sweep:
    """A description that was read.

    Attributes:
        path: its file.
        tool: ``'compress'`` or ``'train'``.
        work_dir: folder of everything.
        jobs: the grid's points, the last setting changing fastest.
        slurm: options of sbatch.
        seeds: short name of the setting that only repeats a point, ``randomness.seed``; None if it does
            not vary.
    """

    path: Path
    tool: str
    work_dir: Path
    jobs: list[Job] = field(default_factory=list)
    slurm: dict[str, Any] = field(default_factory=dict)
    seeds: str | None = None

    def job(self, number: int) -> Job:
        """The job of this number.

        Raises:
            UsageError: there is none.
        """
        if not 0 <= number < len(self.jobs):
            raise UsageError(
                f"--job {number}: {self.path} has {len(self.jobs)} jobs, 0 to {len(self.jobs) - 1}"
            )
        return self.jobs[number]


def read_sweep(path: str | Path, work_dir: str | Path | None = None) -> Sweep:
    """Read a description.

    .. code-block:: yaml

        tool: compress                                  # or train; the default is compress
        config: configs/sidt_swin_micro_shapes.py       # as on the command line, seen from where it is run
        work_dir: work_dirs/lambdas                     # default: work_dirs/sweep_<name of this file>
        arguments: --ratio 0.2 0.4 --control            # of every job
        options:                                        # settings of the config, of every job
          optim_wrapper.beta: 0.5
        grid:                                           # a job for each combination
          optim_wrapper.lam: [0.5, 1.0]
          randomness.seed: [0, 1, 2]
          --criterion: [alpha, alpha-per-cost]          # an option of the tool
        slurm: {partition: gpu, gres: "gpu:1", time: "12:00:00"}

    Args:
        path: the file.
        work_dir: folder of everything, in the place of the file's.

    Raises:
        UsageError: no such file, not YAML, or a value that makes no sense.
    """
    path = Path(path)
    content = _content(path)
    tool = content.get("tool", "compress")
    if tool not in _RUNNERS:
        raise UsageError(f"{path}: tool={tool!r} must be one of {', '.join(_RUNNERS)}")
    config = content.get("config")
    if isinstance(config, str):
        config = _found(path, config)
    if not isinstance(config, str) or not Path(config).is_file():
        raise UsageError(
            f"{path}: config={config!r} must be the path of a config file, seen from {Path.cwd()}"
        )
    work_dir = work_dir or content.get("work_dir", f"work_dirs/sweep_{path.stem}")
    if not isinstance(work_dir, str | Path) or not work_dir:
        raise UsageError(f"{path}: work_dir={work_dir!r} must be the path of a folder")
    arguments = _arguments(path, content.get("arguments"))
    options = _mapping(path, content, "options")
    grid = _grid(path, content)
    if both := options.keys() & grid.keys():
        raise UsageError(f"{path}: {', '.join(sorted(both))} is under options and under grid")
    for key in options:
        _check_option(path, "options", key)
    if clash := {key for key in grid if key in arguments}:
        raise UsageError(f"{path}: {', '.join(sorted(clash))} is in arguments and under grid")
    short = _short_names(grid)
    sweep = Sweep(
        path,
        tool,
        Path(work_dir),
        slurm=_mapping(path, content, "slurm"),
        seeds=short["randomness.seed"] if len(grid.get("randomness.seed", ())) > 1 else None,
    )
    for number, values in enumerate(itertools.product(*grid.values())):
        point = dict(zip(grid, values, strict=True))
        sweep.jobs.append(
            _job(sweep, number, config, arguments, options, point, {k: short[k] for k in point})
        )
    return sweep


def _content(path: Path) -> dict:
    if not path.is_file():
        raise UsageError(f"{str(path)!r} does not exist; give the path of a sweep's YAML file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is no YAML file: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} must hold keys and values: {', '.join(_KEYS)}")
    for key in content:
        if key not in _KEYS:
            near = difflib.get_close_matches(str(key), _KEYS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(_KEYS)}"
            raise UsageError(f"{path}: no such key as {key!r}; {hint}")
    return content


def _mapping(path: Path, content: dict, key: str) -> dict[str, Any]:
    value = content.get(key) or {}
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise UsageError(f"{path}: {key}={value!r} must be names and values")
    return value


def _arguments(path: Path, value: object) -> list[str]:
    if isinstance(value, str):
        value = value.split()
    if not isinstance(value or [], list):
        raise UsageError(f"{path}: arguments={value!r} must be a text or a list")
    arguments = [str(each) for each in value or []]
    for argument in arguments:
        if (reason := _OWN.get(argument.partition("=")[0])) is not None:
            raise UsageError(f"{path}: arguments has {argument}, but {reason}; leave it out")
    return arguments


def _grid(path: Path, content: dict) -> dict[str, list]:
    grid = _mapping(path, content, "grid")
    for key, values in grid.items():
        _check_option(path, "grid", key)
        if not isinstance(values, list) or not values:
            raise UsageError(f"{path}: grid.{key}={values!r} must be a list of the values to try")
        texts = [_text(value) for value in values]
        if twice := {text for text in texts if texts.count(text) > 1}:
            raise UsageError(f"{path}: grid.{key} has {', '.join(sorted(twice))} more than once")
    return grid


def _check_option(path: Path, where: str, key: str) -> None:
    if (reason := _OWN.get(key)) is not None:
        raise UsageError(f"{path}: {where} has {key}, but {reason}")
    if key.startswith("--"):
        if where == "grid":
            return
        raise UsageError(f"{path}: {where} has {key}: options of the tool stand under arguments")
    if not all(part.isidentifier() or part.isdigit() for part in key.split(".")):
        raise UsageError(
            f"{path}: {where} has {key!r}: no name of a setting, such as randomness.seed"
        )


def _short_names(grid: Mapping[str, list]) -> dict[str, str]:
    """``randomness.seed`` -> ``seed``, where that is clear."""
    short = {key: key.removeprefix("--").rpartition(".")[2] for key in grid}
    taken = list(short.values())
    return {
        key: name if taken.count(name) == 1 else key.removeprefix("--")
        for key, name in short.items()
    }


def _found(path: Path, config: str) -> str:
    try:
        return find_config(config)
    except ValueError as error:
        raise UsageError(f"{path}: config={config!r}: {error}") from error


def _job(
    sweep: Sweep,
    number: int,
    config: str,
    arguments: list[str],
    options: Mapping[str, Any],
    point: Mapping[str, Any],
    short: Mapping[str, str],
) -> Job:
    named = {short[key]: value for key, value in point.items()}
    name = _file_name(",".join(f"{key}={_text(value)}" for key, value in named.items()) or "all")
    folder = sweep.work_dir / name
    flags, settings = list(arguments), dict(options)
    for key, value in point.items():
        if not key.startswith("--"):
            settings[key] = value
        elif value is True:
            flags.append(key)
        elif value is not False:
            flags += [key, *map(_text, value if isinstance(value, list) else [value])]
    command = [*RUN, sweep.tool, config, *flags]
    command += ["--work-dir", str(folder)]
    command += ["--resume"] if sweep.tool == "train" else []
    if settings:
        command += ["--cfg-options", *(f"{key}={_text(value)}" for key, value in settings.items())]
    return Job(
        number,
        name,
        named,
        command,
        folder,
        sweep.work_dir / "logs" / f"{name}.log",
        sweep.work_dir / "jobs" / f"{name}.json",
    )


def _text(value: object) -> str:
    """A value as ``--cfg-options`` and the tools' options read it."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_text, value))}]"
    return str(value)


def _file_name(text: str) -> str:
    """A folder's name that says what it holds and is one of its own."""
    name = re.sub(r"[^\w.,=+-]", "_", text.replace("[", "").replace("]", ""))
    if name == text.replace("[", "").replace("]", "") and len(name) <= _LONGEST_NAME:
        return name
    mark = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{name[: _LONGEST_NAME - 9]}-{mark}"
