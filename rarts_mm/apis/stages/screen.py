"""What the screen shows while a stage runs: one live line, or in a file a line now and then."""

import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ..metrics import headline, metric_format

# Without a terminal: seconds between two lines.
_LINE_INTERVAL = 10.0


class Screen:
    """Shows how far a stage is: where it stands, loss and metrics, the time that is left.

    Attributes:
        metrics: what the last evaluation gave, in words.

    Args:
        name: the stage.
        log: the file that takes all that it prints.
        command: what would do the same by hand.
        verbose: copy the log to the screen instead.
    """

    def __init__(self, name: str, log: Path, command: str, verbose: bool = False) -> None:
        self.name, self.log, self.command, self.verbose = name, log, command, verbose
        self._console = Console(soft_wrap=True, highlight=False, markup=False)
        self._live = self._console.is_terminal and not verbose
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TaskProgressColumn(show_speed=False),
            TextColumn("{task.fields[text]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            # It also keeps the time where nothing is drawn.
            disable=not self._live,
            transient=True,
            speed_estimate_period=120,
        )
        self._task = self._bar.add_task(f"[{name}]", total=None, text="starting")
        self.metrics = ""
        self._place = "starting"
        self._said = float("-inf")
        # When this stage began to count steps, and where.
        self._began = 0.0, 0.0
        self._copied = 0

    def __enter__(self) -> "Screen":
        self.say(f"[{self.name}] {self.command} (log: {self.log})")
        if self.verbose and self.log.is_file():
            self._copied = self.log.stat().st_size
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()
        if self.verbose:
            self._copy_log()

    def say(self, text: str) -> None:
        """Print a line of its own."""
        self._console.print(text)
        self._said = time.monotonic()

    def show(self, report: dict) -> None:
        """Take a report of the stage (:mod:`rarts_mm.progress`)."""
        if "of" in report:
            task = self._bar.tasks[0]
            if task.total is None or report["done"] < task.completed:
                # A run that goes on in the middle: what was done before took none of this time.
                self._bar.reset(self._task, total=report["of"], completed=report["done"])
                self._began = time.monotonic(), report["done"]
            else:
                self._bar.update(self._task, total=report["of"], completed=report["done"])
        if "metrics" in report:
            self.metrics = describe(report["metrics"])
        self._place = report.get("text", self._place)
        self._bar.update(self._task, text=", ".join(filter(None, (self._place, self.metrics))))

    def refresh(self) -> None:
        """What is due at this moment; called several times a second."""
        if self.verbose:
            self._copy_log()
        elif not self._live and time.monotonic() - self._said >= _LINE_INTERVAL:
            self.say(self._line())

    def _line(self) -> str:
        """``[search] 40/150 (27 %), epoch 2/3, loss 1.2, 1:12 left``."""
        task = self._bar.tasks[0]
        parts = [task.fields["text"]]
        if task.total:
            parts.insert(0, f"{task.completed:.0f}/{task.total:.0f} ({task.percentage:.0f} %)")
            if (left := self._seconds_left(task)) is not None:
                parts.append(f"{clock(left)} left")
        return f"[{self.name}] " + ", ".join(filter(None, parts))

    def _seconds_left(self, task) -> float | None:
        start, before = self._began
        done = task.completed - before
        if done <= 0:
            return None
        return (time.monotonic() - start) / done * (task.total - task.completed)

    def _copy_log(self) -> None:
        if not self.log.is_file():
            return
        with open(self.log, "rb") as file:
            file.seek(self._copied)
            new = file.read()
        self._copied += len(new)
        sys.stdout.write(new.decode(errors="replace"))
        sys.stdout.flush()


def describe(metrics: dict[str, float]) -> str:
    """``box AP 0.644, mask AP 0.664``; at most three."""
    shown = list(headline(metrics).items())[:3]
    return ", ".join(f"{name} {metric_format(name)(value)}" for name, value in shown)


def clock(seconds: float) -> str:
    """``0:42``, ``1:02:03``."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
