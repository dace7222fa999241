"""Stages of a long chain: each runs in a process of its own, once."""

import json
import multiprocessing
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from rarts_mm.files import write_text

from .command_line import speaks_for_itself
from .errors import UsageError


class StageError(RuntimeError):
    """A stage of a chain failed; its own output says why."""


class Stages:
    """Remembers in a JSON file which stages are done, so that an interrupted chain goes on.

    Args:
        record: the file.
        identity: what the whole chain depends on; a record of another identity is an error.
    """

    def __init__(self, record: str | Path, identity: dict) -> None:
        self.path = Path(record)
        self.done: dict[str, dict] = {}
        self.identity = json.loads(json.dumps(identity))
        if self.path.is_file():
            content = json.loads(self.path.read_text())
            differing = sorted(
                k for k, v in self.identity.items() if content["identity"].get(k) != v
            )
            if differing:
                raise UsageError(
                    f"{self.path.parent} holds another run (it differs in {', '.join(differing)}); "
                    "choose another folder with --work-dir DIR, or remove that one"
                )
            self.done = content["done"]

    def run(self, name: str, what: str, function: Callable[..., dict | None], *args, **kw) -> dict:
        """Run ``function`` in a process of its own unless the stage is done; return its result.

        Args:
            name: key of the stage.
            what: one line for the reader: what happens, or the command that would do the same.
            function: a module-level function; its JSON-ready result is remembered.
        """
        if name in self.done:
            print(f"[{name}] done before, skipped", flush=True)
            return self.done[name]["result"]
        print(f"\n[{name}] {what}", flush=True)
        start = time.perf_counter()
        result = _in_child(name, function, args, kw)
        seconds = time.perf_counter() - start
        self.done[name] = dict(result=result, seconds=round(seconds, 1))
        write_text(self.path, json.dumps(dict(identity=self.identity, done=self.done), indent=1))
        print(f"[{name}] {seconds:.0f} s", flush=True)
        return result


def _in_child(name: str, function: Callable, args: tuple, kw: dict) -> dict:
    # Forking shares what the parent has imported and saves seconds per stage; the parent itself
    # computes nothing, so that no thread or CUDA context is inherited.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(send, function, args, kw), name=name)
    process.start()
    send.close()
    try:
        kind, value = receive.recv()
    except EOFError:
        process.join()
        raise StageError(
            f"stage {name!r} ended with exit code {process.exitcode} and no result; "
            "run the same command again to go on from here"
        ) from None
    finally:
        # Interrupted or told to stop: no stage goes on without the chain.
        if sys.exc_info()[0] is not None and process.is_alive():
            process.terminate()
        process.join()
    if kind == "usage":
        raise UsageError(value)
    if kind == "error":
        raise StageError(f"stage {name!r} failed: {value}")
    return value


def _child(send, function: Callable, args: tuple, kw: dict) -> None:
    try:
        send.send(("result", function(*args, **kw)))
    except UsageError as error:
        send.send(("usage", str(error)))
    except KeyboardInterrupt:
        # The parent got it too, and says so.
        raise SystemExit(128 + signal.SIGINT) from None
    # The boundary of a process: whatever it was, the parent must hear of it.
    except Exception as error:
        if speaks_for_itself(error) and not isinstance(error, RuntimeError):
            send.send(("usage", str(error)))
            return
        traceback.print_exc()
        sys.stderr.flush()
        send.send(("error", f"{type(error).__name__}: {error}"))
