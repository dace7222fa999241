"""Which stages of a chain are done."""

import difflib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

from rarts_mm.files import write_text

from ..errors import UsageError
from .process import run_in_process
from .screen import Screen, clock


class Stages:
    """Remembers in a JSON file which stages are done, so that an interrupted chain goes on.

    Args:
        record: the file; it is written before the first stage, so that no other chain mixes with this
            one whenever it ends.
        identity: what the whole chain depends on; a record of another identity is an error.
        verbose: show on the screen all that the stages print, instead of a line for each.
    """

    def __init__(self, record: str | Path, identity: dict, verbose: bool = False) -> None:
        self.path = Path(record)
        self.verbose = verbose
        # As it would be read again: JSON has no tuples.
        self.identity = json.loads(json.dumps(identity))
        self.done: dict[str, dict] = self._read() if self.path.is_file() else {}
        self._write()

    def run(
        self,
        name: str,
        command: str,
        function: Callable[..., dict],
        *args,
        key: str | None = None,
    ) -> dict:
        """Run ``function`` in a process of its own unless the stage is done; return its result.

        Args:
            name: the stage, on the screen and in its log's name.
            command: one line for the stage's log: the command that would do the same, or what happens.
            function: a module-level function; its JSON-ready result is remembered, and its entry
                ``summary``, a short text, is shown.
            args: its arguments.
            key: what the result is remembered under; by default the name.

        Raises:
            UsageError: what the user gave does not work.
            StageError: the stage failed; it is not done.
        """
        key = key or name
        if key in self.done:
            print(f"[{name}] done before, skipped", flush=True)
            return self.done[key]["result"]
        log = self.path.parent / "logs" / f"{_file_name(name)}.log"
        start = time.perf_counter()
        with Screen(name, log, command, self.verbose) as screen:
            result = run_in_process(name, function, args, log, screen)
        seconds = time.perf_counter() - start
        self.done[key] = dict(result=result, seconds=round(seconds, 1))
        self._write()
        summary = result.get("summary") or screen.metrics
        print(f"[{name}] " + ": ".join(filter(None, (clock(seconds), summary))), flush=True)
        return result

    def _read(self) -> dict[str, dict]:
        folder = self.path.parent
        try:
            content = json.loads(self.path.read_text())
            identity, done = dict(content["identity"]), dict(content["done"])
            for stage in done.values():
                stage["result"]
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{self.path} is no record of a chain's stages ({type(error).__name__}: {error}), so "
                f"what is done in {folder} is not known; choose another folder with --work-dir DIR, or "
                "remove that one"
            ) from error
        # Either may lack a key of the other, if another version wrote it.
        keys = sorted({*self.identity, *identity})
        if differing := [k for k in keys if identity.get(k) != self.identity.get(k)]:
            raise UsageError(
                f"{folder} holds another run (it differs in {', '.join(differing)}"
                f"{_first_difference(identity, self.identity)}); choose another folder with "
                "--work-dir DIR, or remove that one"
            )
        return done

    def _write(self) -> None:
        content = dict(identity=self.identity, done=self.done)
        write_text(self.path, json.dumps(content, indent=1))


def _first_difference(there: dict, here: dict) -> str:
    """``: there 'lr=0.1,', here 'lr=0.2,'``: the first lines by which long texts differ, in words."""
    for key in sorted({*there, *here}):
        old, new = there.get(key), here.get(key)
        if old == new or not (isinstance(old, str) and isinstance(new, str)):
            continue
        said = []
        for line in list(difflib.unified_diff(old.split("\n"), new.split("\n"), n=0))[3:]:
            if line.startswith("@@"):
                break
            said.append(f"{'there' if line[0] == '-' else 'here'} {line[1:].strip()[:100]!r}")
        return ": " + ", ".join(said[:4])
    return ""


def _file_name(name: str) -> str:
    """``finetune-40``: the name of a stage as that of a file."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", name).strip("-.") or "stage"
