"""The process of a stage: takes its order from standard input, performs it, sends back the result."""

import faulthandler
import os
import pickle
import signal
import sys
import traceback
from multiprocessing.connection import Connection

from rarts_mm import progress
from rarts_mm.parent import children_die_too, die_with_parent
from rarts_mm.preemption import Preempted

from ..command_line import in_words, is_told_by_run, speaks_for_itself
from ..errors import UsageError
from ..stopping import stoppable
from ..system_errors import keep_going_without_log_files
from ..validation.building import explained_building


def main() -> None:
    """Perform the order that :func:`~rarts_mm.apis.stages.process.run_in_process` gives."""
    handle, parent, order = pickle.load(sys.stdin.buffer)
    keep_going_without_log_files()
    children_die_too()
    die_with_parent(parent)
    # Asked where it stands, the process writes it into its log.
    faulthandler.register(signal.SIGUSR2)
    os.set_inheritable(handle, False)
    connection = Connection(handle, readable=False)
    progress.listen(lambda report: connection.send(("report", report, "")))
    with stoppable() as stopping:
        # Said before what the order needs is imported: from here on the process can be asked.
        progress.report(text="loading")
        try:
            answer = _perform(order)
        except Preempted as end:
            raise SystemExit(end.code) from None
        if stopping.signum is None:
            connection.send(answer)
    raise SystemExit(0 if stopping.signum is None else stopping.status)


def _perform(order: bytes) -> tuple[str, object, str]:
    try:
        function, args = pickle.loads(order)
        with explained_building(unless=is_told_by_run):
            return "result", function(*args), ""
    except UsageError as error:
        return "usage", str(error), ""
    # The boundary of a process: whatever it was, the parent must hear of it.
    except Exception as error:
        trace = traceback.format_exc()
        print(trace, file=sys.stderr, flush=True)
        if speaks_for_itself(error):
            return ("error" if isinstance(error, RuntimeError) else "usage"), in_words(error), ""
        return "error", f"{type(error).__name__}: {error}", trace
